"""A local module that the client finds and ships."""


def squares(n: int) -> list[int]:
    """The first squares."""
    return [i * i for i in range(n)]
