"""How the documentation is read by the test that follows it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.manual import Step, program, shows, steps

PAGE = """\
Text with `sh` in it.

<!-- given: mkdir place; cd place -->
<!-- file: note.txt -->

```yaml
a: b
```

<!-- exits: 3: sh -->
<!-- not run: installs: pip -->

```sh
# a remark
cat note.txt \\
  > copy.txt     # one command
sh -c 'exit 3'
pip install it
```

```sh
$ cat copy.txt
```

<!-- shows -->

```text
a: …
```

```toml
no = "command"
```
"""


def test_a_page_is_read_as_steps() -> None:
    assert steps(PAGE) == [
        Step(3, "mkdir place; cd place", "given"),
        Step(7, "a: b\n", "file", name="note.txt"),
        Step(15, "cat note.txt > copy.txt     # one command", "command"),
        Step(17, "sh -c 'exit 3'", "command", code=3),
        Step(18, "pip install it", "not run", why="installs"),
        Step(22, "cat copy.txt", "command"),
        Step(28, "a: …\n", "shows"),
    ]


@pytest.mark.parametrize("wrong", ["", "exit 3", "cat copy.txt"])
def test_its_program_stops_at_the_first_step_that_ends_otherwise(tmp_path: Path, wrong: str) -> None:
    page = steps(PAGE.replace(wrong, "false") if wrong else PAGE)
    (tmp_path / "out").mkdir()
    text = program(page, tmp_path / "out", tmp_path / "codes")

    done = subprocess.run(["bash", "-c", text], cwd=tmp_path, check=False)

    codes = (tmp_path / "codes").read_text().splitlines()
    if wrong:
        assert done.returncode == 99
        assert codes[-1].endswith(" 1")
    else:
        assert (done.returncode, codes) == (0, ["0 0", "1 0", "2 0", "3 3", "5 0"])
        assert shows(page[6].text, (tmp_path / "out" / "5").read_text())


@pytest.mark.parametrize(
    ("page", "printed", "same"),
    [
        ("a\n", "\x1b[1ma\x1b[0m  \n\n", True),
        ("a\n", "a\nb\n", False),
        ("… a.b\n", "12 a.b\n", True),
        ("… a.b\n", "12 a+b\n", False),
        ("…\nz\n", "z\n", True),
        ("a\n…\nz\n", "a\nb\nc\nz\n", True),
        ("a\n…\n", "b\na\n", False),
    ],
)
def test_what_is_shown_is_compared_by_its_shape(page: str, printed: str, same: bool) -> None:
    assert shows(page, printed) is same
