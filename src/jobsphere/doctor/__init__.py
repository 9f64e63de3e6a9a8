"""Looks over a data directory and its host: what is wrong, what to do, and the repairs that can do no harm."""
