"""Backups of a data directory, made beside its running server, and the way back."""
