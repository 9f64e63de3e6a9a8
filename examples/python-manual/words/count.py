"""The counting itself."""

from collections import Counter


def count(text: str) -> dict[str, int]:
    """How often each word occurs."""
    return dict(Counter(text.split()))
