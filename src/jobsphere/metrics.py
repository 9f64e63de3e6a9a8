"""Counts what happens, and tells Prometheus.

Counting is plain Python: the library is imported when somebody asks for the first time.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobsphere.domain.capacity import NodeCapacity
from jobsphere.domain.job import LIVE_STATUSES, Job, JobStatus
from jobsphere.domain.node_ports import Condition, Node

if TYPE_CHECKING:
    from prometheus_client.core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FAST_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SLOW_S = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600, 7 * 24 * 3600)


@dataclass(frozen=True, slots=True)
class NodeGauges:
    """A node: what it has for jobs, and what is left of it."""

    node: Node
    free: NodeCapacity


@dataclass(frozen=True, slots=True)
class Gauges:
    """How things are, as who leads knows them: attempts, who waits, nodes, bytes free on the data directory's disk."""

    running: int
    waiting: int
    nodes: Sequence[NodeGauges]
    disk_free: int
    leads: bool = True


class Histogram:
    """How many values lie below each bound, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """The bounds, the last one without end, each with how many values are not above it."""
        names = [*(f"{bound:g}" for bound in self.bounds), "+Inf"]
        so_far, found = 0, list[tuple[str, float]]()
        for name, count in zip(names, self.counts, strict=True):
            so_far += count
            found.append((name, so_far))
        return found


class Metrics:
    """The :class:`jobsphere.domain.meter.Meter` of a server.

    Args:
        monotonic: A clock for durations, in seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._since: dict[str, float] = {}
        """When the live jobs came into their status, as far as this server saw it."""
        self._created = 0
        self._ended: Counter[str] = Counter(dict.fromkeys(("SUCCESS", "ERROR", "CANCELLED"), 0))
        self._failures: Counter[str] = Counter()
        self._in_status: dict[str, Histogram] = {}
        self._calls: Counter[tuple[str, str]] = Counter()
        self._call_seconds: dict[str, Histogram] = {}
        self._commits = Histogram(_FAST_S)
        self._writes = 0
        self._files: Counter[str] = Counter()
        self._file_bytes: Counter[str] = Counter()
        self._file_seconds: Counter[str] = Counter()

    def moved(self, was: Job | None, new: Job) -> None:
        """See :meth:`jobsphere.domain.meter.Meter.moved`."""
        if was is None:
            self._created += 1
            return
        if was.status is new.status:
            return
        now, since = self._monotonic(), self._since.pop(new.id, None)
        if since is not None:
            self._in_status.setdefault(was.status, Histogram(_SLOW_S)).add(now - since)
        if new.status in LIVE_STATUSES:
            self._since[new.id] = now
        if new.status.terminal:
            self._ended[new.status] += 1
            if new.status is JobStatus.ERROR:
                self._failures["program" if new.return_code else new.failure.phase if new.failure else "unknown"] += 1

    def called(self, method: str, code: str, seconds: float) -> None:
        """See :meth:`jobsphere.domain.meter.Meter.called`."""
        self._calls[method, code] += 1
        histogram = self._call_seconds.get(method)
        if histogram is None:
            histogram = self._call_seconds[method] = Histogram(_FAST_S)
        histogram.add(seconds)

    def committed(self, writes: int, seconds: float) -> None:
        """See :meth:`jobsphere.domain.meter.Meter.committed`."""
        self._writes += writes
        self._commits.add(seconds)

    def transferred(self, direction: str, size: int, seconds: float) -> None:
        """See :meth:`jobsphere.domain.meter.Meter.transferred`."""
        self._files[direction] += 1
        self._file_bytes[direction] += size
        self._file_seconds[direction] += seconds  # pyright: ignore[reportArgumentType]  a Counter adds floats too

    def exposition(self, now: Gauges) -> bytes:
        """All of it in Prometheus' text format, and what the library knows of this process.

        Args:
            now: How things are now.
        """
        from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=registry)
        registry.register(_Collected([*self._of_jobs(), *self._of_calls(), *self._of_store(), *_of_server(now)]))
        return generate_latest(registry)

    def _of_jobs(self) -> Iterator[Metric]:
        yield _counter("jobs_created", "Jobs that were created or forked", {(): self._created})
        yield _counter("jobs_ended", "Jobs that have ended, by status", _one(self._ended), "status")
        yield _counter(
            "jobs_failed", "Jobs that ended in ERROR: the program returned a code, or a part of the server failed",
            _one(self._failures), "cause",
        )  # fmt: skip
        yield _histograms("job_status_seconds", "How long jobs were in a status", self._in_status, "status")

    def _of_calls(self) -> Iterator[Metric]:
        yield _counter("calls", "Calls of the API that have ended", self._calls, "method", "code")
        yield _histograms(
            "call_seconds", "How long calls took; streams, as long as they were read", self._call_seconds, "method"
        )

    def _of_store(self) -> Iterator[Metric]:
        yield _counter("store_writes", "Writes that were made durable", {(): self._writes})
        yield _histograms("store_commit_seconds", "How long a group of writes took", {"": self._commits})
        yield _counter("files", "Files that went up and down", _one(self._files), "direction")
        yield _counter("file_bytes", "Their bytes", _one(self._file_bytes), "direction")
        yield _counter("file_seconds", "The time that they took", _one(self._file_seconds), "direction")


Values = Mapping[tuple[str, ...], float]


@dataclass(frozen=True, eq=False)
class _Collected:
    """As the library wants to be given them."""

    metrics: Sequence[Metric]

    def collect(self) -> Sequence[Metric]:
        return self.metrics


def _of_server(now: Gauges) -> Iterator[Metric]:
    yield _gauge("leads", "Whether this server moves jobs on: one of those that share a database", {(): now.leads})
    yield _gauge("data_disk_free_bytes", "What is free on the disk of the data directory", {(): now.disk_free})
    if now.leads:
        yield from _of_nodes(now)


def _of_nodes(now: Gauges) -> Iterator[Metric]:
    yield _gauge("jobs_running", "Attempts that hold a part of a node", {(): now.running})
    yield _gauge("jobs_waiting", "Jobs that wait for a part of a node", {(): now.waiting})
    conditions = {
        (of.node.name, kind.value): float(of.node.condition is kind) for of in now.nodes for kind in Condition
    }
    yield _gauge("node_condition", "1 for how the node is", conditions, "node", "condition")
    yield _of_each(now, "node_cpus", "CPUs that jobs may have", lambda has: has.cpus)
    yield _of_each(now, "node_memory_bytes", "Memory that jobs may have", lambda has: has.memory_bytes)
    yield _of_each(now, "node_gpus", "GPUs that jobs may have", lambda has: len(has.gpus))


def _of_each(now: Gauges, name: str, help_: str, part: Callable[[NodeCapacity], float]) -> Metric:
    values: dict[tuple[str, ...], float] = {}
    for of in now.nodes:
        values[of.node.name, "all"] = part(of.node.capacity)
        values[of.node.name, "free"] = part(of.free)
    return _gauge(name, help_, values, "node", "of")


def _one(counted: Mapping[str, float]) -> Values:
    return {(label,): value for label, value in counted.items()}


def _counter(name: str, help_: str, values: Values, *labels: str) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(f"jobsphere_{name}", help_, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _gauge(name: str, help_: str, values: Values, *labels: str) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(f"jobsphere_{name}", help_, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _histograms(name: str, help_: str, values: Mapping[str, Histogram], *labels: str) -> Metric:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(f"jobsphere_{name}", help_, labels=labels)
    for key, histogram in values.items():
        family.add_metric((key,) if labels else (), histogram.buckets(), histogram.total)
    return family
