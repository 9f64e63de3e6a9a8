"""Counts the words of a text with a local module, and says which version of a requirement it got."""

import json
import sys
from pathlib import Path

import packaging
from words import count


def main() -> None:
    """Read the first argument, write the second."""
    source, result = sys.argv[1:]
    Path(result).write_text(json.dumps(count(Path(source).read_text()), sort_keys=True))
    print(f"counted with packaging {packaging.__version__} on Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
