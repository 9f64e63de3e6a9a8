"""The documentation as something to follow: its pages, block by block, as steps that bash takes.

Invisible comments before a block say what a reader knows without them:

| Comment | Meaning |
|---|---|
| ``given: SHELL`` | what the reader has beforehand: run first, shown to nobody |
| ``file: NAME`` | the block is that file, in the folder where the reader is now |
| ``stays`` | the block's command does not end: the page goes on when it says that it is ready |
| ``exits: CODE: LINE`` | the line that begins so ends with that code |
| ``not run: KIND``, ``not run: KIND: LINE`` | the block, or the line, is for no test: one of :data:`KINDS` |
| ``shows`` | the block is what the command before it prints; ``…`` stands for anything |
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])

KINDS = {
    "installs": "it fetches programs from the internet",
    "this machine": "it changes the machine that it runs on",
    "no cluster": "it needs a Spark or a GPU cluster that a test host has not",
    "all tests": "it is the test suite itself, or hours of it",
}
"""Why a command of the documentation is not run by its test. There are no other reasons."""
SHELL, PYTHON = ("sh", "console"), "python"
_PIECE = re.compile(
    r"^```(?P<language>\S*)\n(?P<content>.*?)^```$"
    r"|<!-- (?P<word>given|file|exits|not run|stays|shows)\b:?(?P<said>.*?)-->",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Args:
        line: Where it stands in its page.
        text: A command, a program, the content of a file, or what is shown.
        kind: ``given``, ``command``, ``stays``, ``python``, ``file``, ``shows`` or ``not run``.
        name: Of a file.
        code: What it ends with.
        why: The kind of reason for which it is not run.
    """

    line: int
    text: str
    kind: str
    name: str = ""
    code: int = 0
    why: str = ""


@dataclass
class _Marks:
    """What the comments say about the block that follows."""

    words: list[tuple[str, str]] = field(default_factory=list)

    def of(self, word: str) -> list[str]:
        return [said for found, said in self.words if found == word]

    def about(self, word: str, line: str) -> str | None:
        """What is said about a line: the part before the line's beginning, if that is named."""
        for said in self.of(word):
            value, _, beginning = said.partition(": ")
            if line.startswith(beginning):
                return value
        return None


def steps(text: str) -> list[Step]:
    """What a page says to do, in order."""
    found: list[Step] = []
    marks = _Marks()
    for piece in _PIECE.finditer(text):
        line = text.count("\n", 0, piece.start()) + 1
        word, said, content = piece["word"], (piece["said"] or "").strip(), piece["content"]
        if word == "given":
            found.append(Step(line, said, "given"))
        elif word:
            marks.words.append((word, said))
        else:
            found += _block(line + 1, piece["language"], content, marks)
            marks = _Marks()
    return found


def _block(line: int, language: str, content: str, marks: _Marks) -> Iterator[Step]:
    if names := marks.of("file"):
        yield Step(line, content, "file", name=names[0])
    elif marks.of("shows"):
        yield Step(line, content, "shows")
    elif language in SHELL:
        for number, command in _commands(content):
            if why := marks.about("not run", command):
                yield Step(line + number, command, "not run", why=why)
            else:
                code = int(marks.about("exits", command) or 0)
                yield Step(line + number, command, "stays" if ("stays", "") in marks.words else "command", code=code)
    elif language == PYTHON:
        why = marks.about("not run", "")
        yield Step(line, content, "not run" if why else "python", why=why or "")


def _commands(content: str) -> Iterator[tuple[int, str]]:
    """Commands with their line: a line, or several that end with a backslash."""
    lines = iter(enumerate(content.splitlines()))
    for number, line in lines:
        whole = line.removeprefix("$ ")
        while whole.endswith("\\"):
            whole = whole[:-1] + next(lines)[1].lstrip()
        if whole.strip() and not whole.startswith("#"):
            yield number, whole


def program(page: list[Step], folder: Path, codes: Path) -> str:
    """A bash program that takes the steps of a page, and stops at the first that does not end as it should.

    It writes ``STEP CODE`` into ``codes`` for each, and what a step prints into ``folder/STEP``. Steps see a line of
    text on stdin, for whatever asks for one.
    """
    lines = ["set -o pipefail", f"exec 3>{shlex.quote(str(codes))}"]
    for number, step in enumerate(page):
        if step.kind in ("shows", "not run"):
            continue
        out, source = (shlex.quote(str(folder / f"{number}{end}")) for end in ("", ".in"))
        (folder / f"{number}.in").write_text(step.text)
        match step.kind:
            case "file":
                todo = f"mkdir -p $(dirname {step.name}) && cp {source} {step.name}"
            case "python":
                todo = f"python {source}"
            case "stays":
                todo = f"{step.text.partition('  #')[0]} & wait_ready $! {out}"
            case _:
                todo = step.text
        lines += [
            f"exec >{out} 2>&1 <<<'correct horse battery'",
            todo,
            f'code=$?; echo {number} $code >&3; [ "$code" = {step.code} ] || exit 99',
        ]
    return _WAIT_READY + "\n".join(lines) + "\n"


_WAIT_READY = """\
wait_ready() {
    until grep -q 'is ready' "$2"; do kill -0 "$1" 2>/dev/null || return 1; sleep 0.05; done
}
"""


def shows(expected: str, printed: str) -> bool:
    """Whether something printed has the shape of what the page shows.

    ``…`` stands for anything in a line, and alone in a line for any lines; blanks at the end count nowhere.
    """
    wanted = [re.escape(line) + r"\n" for line in _lines(expected)]
    pattern = "".join("(?:.*\n)*" if line == "…\\n" else line.replace("…", ".*") for line in wanted)
    return re.fullmatch(pattern, "".join(line + "\n" for line in _lines(printed))) is not None


def _lines(text: str) -> list[str]:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return [line.rstrip() for line in plain.rstrip().splitlines()]
