"""What every runner promises, whatever it runs attempts on."""

import asyncio
import hashlib
import sys
from datetime import UTC, datetime

import pytest
from ports_memory_runner import MemoryRunner, unavailable
from running_agent import RunningAgent
from tests.slurm import PARTITION

from jobsphere.blob.datasets import LocalDatasets
from jobsphere.blob.local import LocalBlobStore
from jobsphere.domain.artifact import ArtifactKind, File, FileDesc
from jobsphere.domain.attempt import (
    AttemptPlan,
    Collected,
    CollectedFile,
    Ended,
    EndReason,
    LogFrame,
    LogStream,
    Observation,
    Started,
    StopOrder,
)
from jobsphere.domain.errors import InvalidArgumentError, NotFoundError, UnavailableError
from jobsphere.runner.directories import Takers
from jobsphere.runner.local import LocalRunner
from jobsphere.runner.slurm import SlurmRunner, SlurmSettings
from jobsphere.runner.watch import PollingWatch

HANG_S = 30
CMD = "echo one; until [ -e go ]; do sleep 0.005; done; echo two; exit 3"
PLAN = AttemptPlan("a1", "j1", "p1", CMD)


def takers(path):
    return Takers(LocalBlobStore(path / "blobs"), LocalDatasets(path / "datasets"))


class LocalSubject:
    """Real processes."""

    def __init__(self, path):
        self.path = path
        self.outbox = path / "attempts/a1/outbox"
        argv = [sys.executable, "-m", "jobsphere.node", "--data-dir", str(path), "--idle", "0.2"]
        self.runner = LocalRunner(path, "here", argv, takers(path))

    async def open(self):
        pass

    async def write_first(self):
        pass

    async def finish(self):
        (self.path / "attempts/a1/work/go").touch()

    async def close(self):
        if await self.runner.attempts():
            await self.runner.stop("a1", StopOrder())
            await observed(self.runner, lambda seen: seen.collected)
        await self.end()

    def end(self):
        return self.runner.close()


class RemoteSubject(LocalSubject):
    """Real processes of another machine: everything goes by HTTPS."""

    async def open(self):
        self.local = self.runner
        self.agent = RunningAgent(self.path, self.local)
        await self.agent.start()
        self.runner = self.agent.runner()
        await self.agent.listen(self.runner)

    async def close(self):
        await super().close()
        await self.agent.close()

    def end(self):
        return self.local.close()


class PollingSubject(LocalSubject):
    """Real processes, on a machine without inotify."""

    def __init__(self, path):
        super().__init__(path)
        self.runner._watch.close()
        self.runner._watch = PollingWatch(self.runner._changed, self.runner._grown)


class SlurmSubject(LocalSubject):
    """Jobs of a real Slurm."""

    def __init__(self, path):
        self.path = path
        self.outbox = path / "attempts/a1/outbox"
        argv = [sys.executable, "-m", "jobsphere.node", "--data-dir", str(path)]
        how = SlurmSettings(PARTITION, (), 0.2, 0.5)
        self.runner = SlurmRunner(path, "cluster", takers(path), argv, how)


class MemorySubject:
    def __init__(self, path):
        self.runner = MemoryRunner(path / "outbox", takers(path))
        self.outbox = path / "outbox/a1"

    async def open(self):
        pass

    async def write_first(self):
        await self.runner.become("a1", Started(datetime.now(UTC)))
        await self.runner.write("a1", LogFrame(LogStream.OUT, 1, b"one\n"))

    async def finish(self):
        now, text = datetime.now(UTC), b"one\ntwo\n"
        await self.runner.write("a1", LogFrame(LogStream.OUT, 2, b"two\n"))
        self.outbox.mkdir(parents=True)
        (self.outbox / "stdout.txt").write_bytes(text)
        file = File(FileDesc("stdout.txt"), hashlib.sha256(text).hexdigest(), len(text))
        collected = Collected(now, (CollectedFile(ArtifactKind.LOG, file, "stdout.txt"),))
        await self.runner.become("a1", Ended(now, EndReason.EXITED, 3), collected)

    async def close(self):
        await self.runner.close()


@pytest.fixture(params=[LocalSubject, PollingSubject, RemoteSubject, SlurmSubject, MemorySubject])
async def subject(request, tmp_path, monkeypatch):
    if request.param is SlurmSubject:
        monkeypatch.setenv("SLURM_CONF", request.getfixturevalue("slurm").environ["SLURM_CONF"])
    made = request.param(tmp_path)
    await made.open()
    yield made
    await made.close()


async def observed(runner, condition):
    async with asyncio.timeout(HANG_S):
        while not condition(seen := await runner.observe("a1")):  # noqa: ASYNC110  it happens in other processes
            await asyncio.sleep(0.005)
    return seen


def out(chunk):
    return b"".join(f.content for f in chunk.frames if f.stream is LogStream.OUT)


async def follow(runner, offset=0):
    text, complete = b"", False
    async with asyncio.timeout(HANG_S):
        while not complete:
            await runner.wait_logs("a1", offset, 10)
            chunk = await runner.read_logs("a1", offset, 1 << 20)
            text, offset, complete = text + out(chunk), chunk.offset, chunk.complete
    return text, offset


async def test_an_attempt_that_was_never_launched_is_unknown(subject):
    assert await subject.runner.observe("a1") == Observation(known=False)
    assert list(await subject.runner.attempts()) == []
    assert await subject.runner.log_size("a1") == 0
    await subject.runner.stop("a1", StopOrder())
    await subject.runner.tidy("a1")
    await subject.runner.remove("a1")
    assert await subject.runner.observe("a1") == Observation(known=False)


async def test_an_attempt_goes_from_launch_to_collected(subject):
    await subject.runner.launch(PLAN)
    await subject.write_first()
    seen = await observed(subject.runner, lambda s: s.started)
    assert (seen.known, seen.alive, seen.ended) == (True, True, None)
    await subject.runner.launch(PLAN)
    assert list(await subject.runner.attempts()) == ["a1"]
    await subject.finish()
    seen = await observed(subject.runner, lambda s: s.collected)
    assert (seen.ended.code, seen.alive) == (3, False)
    await subject.runner.launch(PLAN)
    assert await subject.runner.observe("a1") == seen


async def test_whoever_looks_only_when_hinted_sees_the_end(subject):
    hints: asyncio.Queue[str] = asyncio.Queue()
    subject.runner.subscribe(hints.put_nowait)
    await subject.runner.launch(PLAN)
    await subject.write_first()
    await subject.finish()
    async with asyncio.timeout(HANG_S):
        while not (await subject.runner.observe(await hints.get())).collected:
            pass


async def test_a_log_is_followed_to_its_end(subject):
    await subject.runner.launch(PLAN)
    following = asyncio.create_task(follow(subject.runner))
    await subject.write_first()
    async with asyncio.timeout(HANG_S):
        while b"one\n" not in out(chunk := await subject.runner.read_logs("a1", 0, 1 << 20)):
            await subject.runner.wait_logs("a1", chunk.offset, 10)
    assert not chunk.complete
    await subject.finish()
    text, end = await following
    assert text == b"one\ntwo\n"
    assert end == await subject.runner.log_size("a1")
    last = await subject.runner.read_logs("a1", end, 1)
    assert (last.frames, last.offset, last.complete) == ((), end, True)


async def test_a_log_is_read_in_small_steps_and_resumed_at_any_of_their_offsets(subject):
    await subject.runner.launch(PLAN)
    await subject.write_first()
    await subject.finish()
    whole, end = await follow(subject.runner)
    text, offset = b"", 0
    while offset < end:
        chunk = await subject.runner.read_logs("a1", offset, 1)
        assert len(chunk.frames) == 1
        rest = (await follow(subject.runner, offset))[0]
        assert text + rest == whole
        text, offset = text + out(chunk), chunk.offset
        assert chunk.complete == (offset == end)
    assert text == whole


async def test_an_offset_beyond_the_log_is_refused(subject):
    await subject.runner.launch(PLAN)
    await subject.write_first()
    await observed(subject.runner, lambda s: s.started)
    for offset in (-1, 10**9):
        with pytest.raises(InvalidArgumentError, match="offset"):
            await subject.runner.read_logs("a1", offset, 100)


async def test_a_wait_for_a_silent_log_ends(subject):
    await subject.runner.launch(PLAN)
    await subject.write_first()
    await observed(subject.runner, lambda s: s.started)
    await asyncio.wait_for(subject.runner.wait_logs("a1", 10**9, 0.01), HANG_S)


async def test_after_tidying_the_records_and_the_log_are_there_and_after_removal_nothing(subject):
    await subject.runner.launch(PLAN)
    await subject.write_first()
    await subject.finish()
    seen = await observed(subject.runner, lambda s: s.collected)
    for _ in range(2):
        await subject.runner.tidy("a1")
        assert await subject.runner.observe("a1") == seen
        assert (await follow(subject.runner))[0] == b"one\ntwo\n"
    for _ in range(2):
        await subject.runner.remove("a1")
        assert await subject.runner.observe("a1") == Observation(known=False)
        assert list(await subject.runner.attempts()) == []


async def ended(subject):
    await subject.runner.launch(PLAN)
    await subject.write_first()
    await subject.finish()
    return (await observed(subject.runner, lambda s: s.collected)).collected


async def test_what_was_collected_is_delivered_and_may_be_delivered_again(subject, tmp_path):
    (made,) = [c for c in (await ended(subject)).files if c.file.desc.path == "stdout.txt"]
    for _ in range(2):
        await subject.runner.deliver("p1", "a1", [made])
    assert (await takers(tmp_path).blobs.read("p1", made.file.sha256)).read_bytes() == b"one\ntwo\n"
    (subject.outbox / "stdout.txt").unlink(missing_ok=True)
    await subject.runner.deliver("p1", "a1", [made])
    with pytest.raises(NotFoundError):
        await subject.runner.deliver("p2", "a1", [made])


async def test_a_collected_folder_becomes_the_content_of_a_dataset(subject, tmp_path):
    await ended(subject)
    folder = subject.outbox / "dataset-0"
    folder.mkdir(parents=True)
    (folder / "row").write_text("1")
    for _ in range(2):
        await subject.runner.deliver_dataset("p1", "a1", "dataset-0", "d1")
    assert (takers(tmp_path).datasets.folder("p1", "d1") / "row").read_text() == "1"


async def test_a_failing_runner_raises_what_the_port_allows(tmp_path):
    runner = MemoryRunner(tmp_path, takers(tmp_path))
    runner.fault = unavailable()
    with pytest.raises(UnavailableError):
        await runner.launch(PLAN)
    with pytest.raises(UnavailableError):
        await runner.observe("a1")
