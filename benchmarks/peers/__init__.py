"""What else people use to run a command somewhere, measured by the same two questions as this project."""
