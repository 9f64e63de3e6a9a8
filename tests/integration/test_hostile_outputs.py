"""What a program leaves as its outputs is collected from its own folders or told about, whatever it is made of."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest
from supervisors import Node, open_node, output

from jobsphere.domain.artifact import ArtifactKind, FileErrorType
from jobsphere.domain.attempt import SYSTEM_LOG, LogStream, Observation, SandboxPlan
from jobsphere.domain.environment import PythonEnvironment
from jobsphere.runner.sandbox import why_not

LEADS_OUT = "leads out of the job's folders"


@pytest.fixture(params=["sandbox", "none"])
def fence(request: pytest.FixtureRequest) -> SandboxPlan | None:
    """Without a sandbox the program can read the records itself, yet what it names as output is its own files only."""
    if request.param == "none":
        return None
    if reason := why_not():
        pytest.skip(reason)
    return SandboxPlan()


@pytest.fixture
async def node(tmp_path: Path):
    async with open_node(tmp_path / "data") as opened:
        yield opened


def contents(node: Node, seen: Observation) -> dict[str, bytes]:
    """Outputs by path; the members of a folder by theirs."""
    assert seen.collected
    found: dict[str, bytes] = {}
    for file in seen.collected.files:
        if file.kind is ArtifactKind.OUTPUT:
            data = node.runner.outbox("a1", file.name).read_bytes()
            if file.name.endswith(".zip"):
                packed = zipfile.ZipFile(io.BytesIO(data))
                found |= {name: packed.read(name) for name in packed.namelist()}
            else:
                found[file.file.desc.path] = data
    return found


def errors(seen: Observation) -> dict[str, list[str]]:
    assert seen.collected
    assert all(e.type is FileErrorType.UPLOAD_FAILED for e in seen.collected.errors)
    told: dict[str, list[str]] = {}
    for error in seen.collected.errors:
        assert error.desc
        told.setdefault(error.desc.path, []).append(error.description)
    return told


async def program(node: Node, python: str, fence: SandboxPlan | None, *outputs: str) -> Observation:
    """Run a Python program; ``R`` is the job's root in it."""
    seen = await node.run(
        "python x.py", sandbox=fence, environment=PythonEnvironment("3.11"),
        inputs=(node.input(f"import os\nR = os.path.dirname(os.getcwd())\n{python}".encode(), "work/x.py"),),
        outputs=tuple(output(path) for path in outputs),
    )  # fmt: skip
    assert seen.ended
    assert seen.ended.code == 0, await node.text(LogStream.ERR)
    return seen


@pytest.mark.parametrize(
    "target", ["../plan.json", "../logs", "../outbox", "..", "../../a1/plan.json", "../work/../plan.json"]
)
async def test_a_link_to_the_records_of_the_attempt_is_not_followed(
    node: Node, fence: SandboxPlan | None, target: str
) -> None:
    seen = await program(
        node,
        f"os.symlink({target!r}, 'file'); os.mkdir('d'); os.symlink('../' + {target!r}, 'd/deep')\n"
        f"os.symlink(os.path.dirname({target!r}) or '.', 'parent')",
        fence, "file", "d", "parent/" + (os.path.basename(target) or "x"),
    )  # fmt: skip

    assert contents(node, seen) == {"d/": b""}
    assert all("a link" in text for texts in errors(seen).values() for text in texts)
    assert len(errors(seen)) == 3


async def test_links_by_the_paths_that_the_program_sees_are_followed(node: Node, fence: SandboxPlan | None) -> None:
    seen = await program(
        node,
        "open('real', 'w').write('1'); os.symlink(R + '/work/real', 'file'); os.symlink(R + '/plan.json', 'plan')\n"
        "os.mkdir('d'); os.symlink(R + '/work/real', 'd/deep'); os.symlink(R, 'all')",
        fence, "file", "d", "plan", "all",
    )  # fmt: skip

    assert contents(node, seen) == {"file": b"1", "d/": b"", "d/deep": b"1"}
    assert errors(seen).keys() == {"plan", "all"}


async def test_a_link_into_the_temporary_folder_of_the_sandbox_is_followed(node: Node) -> None:
    seen = await program(node, "open('/tmp/x', 'w').write('1'); os.symlink('/tmp/x', 'file')", SandboxPlan(), "file")

    assert contents(node, seen) == {"file": b"1"}


async def test_a_tree_too_deep_to_pack_is_told_and_removed(node: Node, fence: SandboxPlan | None) -> None:
    seen = await program(
        node,
        "open('kept', 'w').write('1')\nfor _ in range(3000): os.mkdir('d'); os.chdir('d')\nopen('lost', 'w').close()",
        fence, "d", "kept",
    )  # fmt: skip

    assert contents(node, seen)["kept"] == b"1"
    assert "folders deep" in errors(seen)["d"][0]
    await node.runner.tidy("a1")
    assert not (node.data / "ended" / "a1" / "work").exists()


async def test_names_of_any_bytes_travel_or_are_told(node: Node, fence: SandboxPlan | None) -> None:
    seen = await program(
        node,
        "os.mkdir('d')\n"
        r"for n in (b'new\nline', b'\x1b[31mred', b'\xff', b'\xfe', 'é'.encode(), b'x' * 255):"
        " open(b'd/' + n, 'w').close()\nos.mkfifo(b'd/\\x1b]0;title\\n2026 forged')",
        fence, "d",
    )  # fmt: skip

    assert contents(node, seen).keys() == {
        "d/", "d/new\nline", "d/\x1b[31mred", "d/\ufffd", "d/é", "d/" + "x" * 255
    }  # fmt: skip
    told = errors(seen)["d"]
    assert [("UTF-8" in t or "neither" in t, t.isprintable()) for t in told] == [(True, True)] * 2
    assert "\x1b" not in await node.text(LogStream.FILE, path=SYSTEM_LOG)


async def test_much_made_of_little_is_told(node: Node, fence: SandboxPlan | None) -> None:
    """Sparse files, and folders of links to folders of links."""
    seen = await program(
        node,
        "open('kept', 'w').write('1'); os.mkdir('s'); open('s/hole', 'w').truncate(1 << 40)\n"
        "os.mkdir('l'); os.mkdir('m'); open('m/f', 'w').close()\n"
        "[os.symlink('.', f'l/{n}') for n in range(9)]; os.symlink('../m', 'l/m'); os.symlink('../m', 'm/up')",
        fence, "s", "l", "kept",
    )  # fmt: skip

    assert contents(node, seen) == {"kept": b"1", "l/": b"", "l/m/": b"", "l/m/f": b""}
    assert "100.0 GiB" in errors(seen)["s"][0]
    assert len(errors(seen)["l"]) == 10


async def test_what_is_no_file_is_told(node: Node, fence: SandboxPlan | None) -> None:
    seen = await program(
        node,
        "import socket\nfor n in ('', 'd/'):\n"
        "  n and os.mkdir(n); os.mkfifo(n + 'fifo'); socket.socket(socket.AF_UNIX).bind(n + 'sock')\n"
        "  os.symlink('/dev/zero', n + 'dev'); os.symlink('b', n + 'a'); os.symlink('a', n + 'b')\n"
        "open('d/real', 'w').write('1'); os.link('d/real', 'd/hard'); os.link('d/real', 'hard')",
        fence, "fifo", "sock", "dev", "a", "d", "hard",
    )  # fmt: skip

    assert contents(node, seen) == {"hard": b"1", "d/": b"", "d/real": b"1", "d/hard": b"1"}
    told = errors(seen)
    assert {k: len(v) for k, v in told.items()} == {"fifo": 1, "sock": 1, "dev": 1, "a": 1, "d": 5}
    assert LEADS_OUT in told["dev"][0]


async def test_the_jobs_folders_may_be_links_themselves(node: Node) -> None:
    """Without a sandbox nothing holds them in place."""
    seen = await program(
        node,
        "os.chdir(R); os.rename('work', 'work2'); os.mkdir('elsewhere'); open('elsewhere/f', 'w').write('x')\n"
        "os.symlink('elsewhere', 'work')", None, "f",
    )  # fmt: skip

    assert contents(node, seen) == {}
    assert LEADS_OUT in errors(seen)["f"][0]
    await node.runner.tidy("a1")
    assert not os.path.lexists(node.data / "ended" / "a1" / "work")
