"""The operator's commands on a data directory: what they leave in the audit log."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from jobsphere.blob.project_disk import ProjectDisk
from jobsphere.domain.accounts import AccountKind
from jobsphere.domain.audit import AuditQuery, AuditRow
from jobsphere.domain.errors import AlreadyExistsError
from jobsphere.domain.resource import Subject
from jobsphere.wiring import desk, resources
from jobsphere.wiring.desk import Desk


async def rows(folder: Path) -> list[AuditRow]:
    return list(await desk.read(folder, lambda d, who: d.audit.find(who, AuditQuery())))


async def add(d: Desk, who: Subject) -> str:
    return (await d.accounts.add(who, "ann", AccountKind.USER)).id


async def test_a_command_leaves_a_row_whatever_becomes_of_it(tmp_path: Path) -> None:
    account_id = await desk.change(tmp_path, "jobsphere user add", [("name", "ann")], add)
    with pytest.raises(AlreadyExistsError):
        await desk.change(tmp_path, "jobsphere user add", [("name", "ann")], add)

    async def interrupted(_: Desk, __: Subject) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await desk.change(tmp_path, "jobsphere user add", [], interrupted)

    cancelled, refused, added = await rows(tmp_path)
    assert (added.result, added.target) == ("OK", f"name=ann account_id={account_id}")
    assert (added.origin, added.subject_id) == ("command line", desk.local_subject().id)
    assert (refused.result, refused.target) == ("ALREADY_EXISTS", "name=ann")
    assert cancelled.result == "CANCELLED"


async def test_a_command_about_a_resource_that_is_broken_off_is_not_written_down_as_done(tmp_path: Path) -> None:
    def interrupted(_: ProjectDisk) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await resources.change_disk(tmp_path, "", "put", "a", interrupted)

    assert [(row.action, row.result) for row in await rows(tmp_path)] == [("jobsphere project disk put", "CANCELLED")]


async def test_what_a_command_reads_leaves_none(tmp_path: Path) -> None:
    assert await desk.default_project_id(tmp_path) == await desk.default_project_id(tmp_path)
    assert await rows(tmp_path) == []


_FIRST = """
import asyncio, sys
from pathlib import Path
from jobsphere.wiring import desk, resources
from jobsphere.blob.project_disk import ProjectDisk
print(flush=True)
sys.stdin.read()
print(asyncio.run(desk.default_project_id(Path(sys.argv[1]))))
"""


def test_processes_that_meet_an_empty_directory_make_one_default_project(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", _FIRST, tmp_path / "data"]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(3)
        ]
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
        ids = {process.stdout.read() for process in processes if process.stdout is not None}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(ids) == 1


async def test_commands_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    await desk.default_project_id(tmp_path)
    made = await asyncio.gather(*(
        desk.change(tmp_path, "jobsphere project create", [("name", f"p-{n}")],
                    lambda d, who, n=n: d.projects.create(who, f"p-{n}"))
        for n in range(5)
    ))  # fmt: skip
    assert len({p.community_id for p, _ in made}) == 1
    assert len(await rows(tmp_path)) == 5
