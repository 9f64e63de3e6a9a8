"""A file of resources over a real store: applied whole, repeated, broken off, pruned, written back."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from jobsphere.domain.audit import AuditQuery
from jobsphere.domain.declared import Step
from jobsphere.domain.errors import InvalidArgumentError, JobsphereError
from jobsphere.wiring import apply as applying
from jobsphere.wiring import desk, resources
from jobsphere.wiring.apply import Applied

PLANTED = "planted-value-4711"
FILE = """\
users:
  ann:
  nightly: {service-account: true}
communities:
  team:
    description: forecasts
    roles:
      ann: admin
    projects:
      demand:
        labels: {cost: "7"}
        quota: {jobs: 100, bytes: 2 GiB}
        roles:
          nightly: developer
        secrets:
          TOKEN: {env: APPLY_TOKEN}
          KEY: {file: key}
        images:
          base: {image: "python:3.11", username: u, password-secret: TOKEN}
          own: {image: "python:3.12", username: u, password: {file: key}}
        datasets:
          prices: {folder: prices, labels: {of: prices}}
        s3:
          lake: {bucket: lake, endpoint: "http://127.0.0.1:9", access-key-secret: KEY, secret-key-secret: TOKEN}
        spark:
          calc: {host: "127.0.0.1:9", params: {spark.app.name: demand}, secret-params: {spark.password: TOKEN}}
"""


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "prices").mkdir()
    (tmp_path / "prices" / "p.csv").write_text("1,2\n")
    (tmp_path / "key").write_text(f"{PLANTED}\n")
    monkeypatch.setenv("APPLY_TOKEN", PLANTED)
    return tmp_path


async def apply(
    base: Path, text: str, *, dry_run: bool = False, prune: bool = False, stop_after: int = 99
) -> list[str]:
    """Apply it: the signs of the steps that were planned. ``stop_after``: break off after so many."""
    planned: list[Applied] = []
    done: list[Step] = []

    def told(step: Step) -> None:
        done.append(step)
        if len(done) == stop_after:
            raise asyncio.CancelledError

    await applying.apply(base / "data", text, base, planned.append, told, dry_run=dry_run, prune=prune)
    assert len(done) == (0 if dry_run else len(planned[0].plan.steps))
    return [f"{step.verb.value} {step.entry.key}" for step in planned[0].plan.steps]


async def test_applied_once_there_is_nothing_left_to_do_and_its_values_are_nowhere_in_clear(base: Path) -> None:
    wanted = await apply(base, FILE, dry_run=True)
    assert len(wanted) == 13
    assert await apply(base, FILE) == wanted
    assert await apply(base, FILE, dry_run=True) == []
    found = await desk.read(base / "data", lambda d, who: d.audit.find(who, AuditQuery()))
    assert [row.action for row in found] == ["jobsphere apply add"] * 13
    assert "kind=Spark-connector path=team/demand/calc" in found[0].target
    texts = {p: p.read_bytes() for p in (base / "data").rglob("*") if p.is_file()}
    assert [p for p, text in texts.items() if PLANTED.encode() in text] == []


async def test_broken_off_anywhere_it_goes_on(base: Path) -> None:
    wanted = await apply(base, FILE, dry_run=True)
    for count in range(1, len(wanted)):
        with pytest.raises(asyncio.CancelledError):
            await apply(base, FILE, stop_after=1)
        assert await apply(base, FILE, dry_run=True) == wanted[count:]


async def test_what_is_changed_keeps_its_id_and_nothing_else_is_touched(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await apply(base, FILE)
    before = await applying.export(base / "data")
    project = (await desk.read(base / "data", lambda d, who: d.projects.all()))[1]
    image, _ = await resources.read(base / "data", project.id, lambda op, who, p: op.images.all(who, p))
    (lake,) = await resources.read(base / "data", project.id, lambda op, who, p: op.connectors.all(who, p))
    (prices,) = await resources.read(base / "data", project.id, lambda op, who, p: op.datasets.all(who, p))

    monkeypatch.setenv("APPLY_TOKEN", "another")
    (base / "prices" / "p.csv").write_text("3,4\n")
    text = FILE.replace("lake, endp", "sea, endp").replace("3.11", "3.13").replace("forecasts", "sales")
    text = text.replace('cost: "7"', 'cost: "8"').replace("app.name: demand", "app.name: sales")
    assert await apply(base, text) == [
        "~ community team",
        "~ project team/demand",
        "~ secret team/demand/TOKEN",
        "~ image team/demand/base",
        "± dataset team/demand/prices",
        "~ S3 connector team/demand/lake",
        "~ Spark connector team/demand/calc",
    ]
    assert await apply(base, text) == []
    (sea,) = await resources.read(base / "data", project.id, lambda op, who, p: op.connectors.all(who, p))
    assert (sea.id, sea.body.bucket) == (lake.id, "sea")
    changed, own = await resources.read(base / "data", project.id, lambda op, who, p: op.images.all(who, p))
    assert (changed.id, changed.body.reference) == (image.id, "docker.io/library/python:3.13")
    (table,) = await resources.read(base / "data", project.id, lambda op, who, p: op.datasets.all(who, p))
    assert table.id != prices.id

    described = text.replace("of: prices", "of: sales").replace("python:3.12", "python:3.14")
    monkeypatch.delenv("APPLY_TOKEN")
    (base / "key").unlink()
    assert await apply(base, described) == ["~ image team/demand/own", "~ dataset team/demand/prices"]
    _, kept = await resources.read(base / "data", project.id, lambda op, who, p: op.images.all(who, p))
    assert (kept.id, kept.body.password_sealed) == (own.id, own.body.password_sealed)
    assert before.count("VALUE_OF_") == 3


async def test_what_is_written_back_changes_nothing(base: Path) -> None:
    await apply(base, FILE)
    text = await applying.export(base / "data")
    assert await apply(base, text, dry_run=True, prune=True) == []
    assert PLANTED not in text


async def test_every_error_at_once_and_nothing_is_done(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APPLY_TOKEN")
    text = FILE.replace("{folder: prices", "{folder: gone").replace("{bucket: lake", "{bucket: a/b")
    text = text.replace("nightly: developer", "bob: developer").replace("ann: admin", "ann: boss")
    text = text.replace('{image: "python:3.11", username: u,', '{image: "python:3.11",')
    with pytest.raises(InvalidArgumentError) as caught:
        await apply(base, text)
    told = caught.value.public.splitlines()[1:]
    assert [int(line.split()[1].rstrip(":")) for line in told] == [8, 14, 16, 19, 22, 24]
    for line, words in zip(
        told,
        ("'boss' is none", "no user bob", "APPLY_TOKEN", "goes with one password", "no folder", "bucket: 'a/b'"),
        strict=True,
    ):
        assert words in line
    assert "team" not in await applying.export(base / "data")


async def test_a_step_that_fails_says_where_to_go_on(base: Path) -> None:
    await resources.change(
        base / "data", "jobsphere secret set", "", "TAKEN", lambda op, who, p: op.secrets.set(who, p, "TAKEN", "x")
    )
    text = "users:\n  a: {external-id: same}\n  b: {external-id: same}\n"
    with pytest.raises(JobsphereError, match=r"user b: .*\(1 of 2 steps are done; apply the file again to go on\)"):
        await apply(base, text)
    newest, _ = (await desk.read(base / "data", lambda d, who: d.audit.find(who, AuditQuery())))[:2]
    assert (newest.action, newest.result) == ("jobsphere apply add", "ALREADY_EXISTS")


async def test_prune_removes_what_the_sections_do_not_name(base: Path) -> None:
    await apply(base, FILE)
    less = (
        FILE.replace("          KEY: {file: key}\n", "").split("        datasets:")[0]
        + "        s3: {}\n        spark: {}\n"
    )
    assert await apply(base, less, dry_run=True) == []
    assert await apply(base, less, prune=True) == [
        "- Spark connector team/demand/calc",
        "- S3 connector team/demand/lake",
        "- secret team/demand/KEY",
    ]
    gone = "users: {}\ncommunities: {}\n"
    removed = await apply(base, gone, prune=True)
    assert removed[-2:] == ["- user ann", "- user nightly"]
    assert "- project team/demand" in removed
    assert await apply(base, gone, dry_run=True, prune=True) == []
    assert "team" not in await applying.export(base / "data")
    assert json.dumps("Made at the first start") in await applying.export(base / "data")


async def test_quotas_are_applied_in_any_spelling_and_refused_with_their_line(base: Path) -> None:
    await apply(base, FILE)
    (project,) = [p for p in await desk.read(base / "data", lambda d, _: d.projects.all()) if p.name == "demand"]
    assert project.quota.as_dict() == {"jobs": 100, "bytes": 2 << 30}
    assert await apply(base, FILE.replace("2 GiB", '"2147483648"')) == []
    with pytest.raises(InvalidArgumentError, match=r"quota 'cpus': there is none"):
        await apply(base, FILE.replace("jobs: 100", "cpus: 100"))
    await apply(base, FILE.replace("jobs: 100, bytes: 2 GiB", ""))
    (project,) = [p for p in await desk.read(base / "data", lambda d, _: d.projects.all()) if p.name == "demand"]
    assert project.quota.as_dict() == {}
