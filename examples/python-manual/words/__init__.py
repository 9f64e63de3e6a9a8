"""Counting words."""

from words.count import count

__all__ = ["count"]
