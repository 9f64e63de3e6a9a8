"""What a job is and how it moves on: pure values and decisions, no I/O, the standard library only."""
