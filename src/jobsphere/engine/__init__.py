"""What moves jobs on: placing them, reconciling what is stored with what is true, clearing what has expired."""
