"""Writes the first squares; needs nothing from a package index."""

import sys
from pathlib import Path

from numbers_of import squares


def main() -> None:
    """Write them to the first argument."""
    Path(sys.argv[1]).write_text(" ".join(map(str, squares(5))) + "\n")
    print("squares written")


if __name__ == "__main__":
    main()
