"""Python environments: found by fingerprint, or built once. Standard library only: this runs in supervisors."""
