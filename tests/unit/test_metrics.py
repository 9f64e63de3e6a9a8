"""What is counted, and how Prometheus reads it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from prometheus_client.parser import text_string_to_metric_families
from tests.unit.world import a_spec

from jobsphere.domain.capacity import NodeCapacity
from jobsphere.domain.job import Failure, Job, JobStatus, Phase
from jobsphere.domain.node_ports import Condition, Node
from jobsphere.metrics import Gauges, Histogram, Metrics, NodeGauges

NODE = NodeGauges(Node("big", NodeCapacity(4.0, 8 << 30), Condition.DRAINING), NodeCapacity(1.5, 2 << 30))
NOW = Gauges(1, 2, [NODE], 1 << 40)


def a_job() -> Job:
    return Job("j1", "p1", "u1", datetime(2026, 1, 1, tzinfo=UTC), a_spec())


class Hands:
    """A clock that is moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def read(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Values by name and labels."""
    text = metrics.exposition(NOW).decode()
    return {
        (sample.name, *(f"{k}={v}" for k, v in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_job_is_timed_in_each_status_and_counted_at_its_end() -> None:
    hands = Hands()
    metrics = Metrics(hands)
    created = a_job()
    waiting = replace(created, status=JobStatus.PREPARING)
    running = replace(created, status=JobStatus.EXECUTING)
    metrics.moved(None, created)
    metrics.moved(created, waiting)
    hands.now = 3.0
    metrics.moved(waiting, replace(waiting, status_details="still"))
    metrics.moved(waiting, running)
    hands.now = 10.0
    metrics.moved(running, replace(running, status=JobStatus.ERROR, failure=Failure(Phase.MACHINE, "lost")))

    found = read(metrics)

    assert found["jobsphere_jobs_created_total",] == 1
    assert found["jobsphere_jobs_ended_total", "status=ERROR"] == 1
    assert found["jobsphere_jobs_ended_total", "status=SUCCESS"] == 0
    assert found["jobsphere_jobs_failed_total", "cause=machine"] == 1
    assert found["jobsphere_job_status_seconds_sum", "status=PREPARING"] == 3
    assert found["jobsphere_job_status_seconds_sum", "status=EXECUTING"] == 7
    assert found["jobsphere_job_status_seconds_bucket", "le=5", "status=PREPARING"] == 1
    assert found["jobsphere_job_status_seconds_bucket", "le=5", "status=EXECUTING"] == 0
    assert not metrics._since  # pyright: ignore[reportPrivateUsage]  nothing of an ended job is kept


def test_a_program_that_fails_is_no_failure_of_a_phase() -> None:
    metrics = Metrics()
    job = a_job()
    metrics.moved(replace(job, status=JobStatus.UPLOADING_OUTPUT), replace(job, status=JobStatus.ERROR, return_code=3))
    assert read(metrics)["jobsphere_jobs_failed_total", "cause=program"] == 1


def test_calls_writes_files_and_the_node() -> None:
    metrics = Metrics()
    metrics.called("/a.S/Get", "OK", 0.002)
    metrics.called("/a.S/Get", "NOT_FOUND", 0.2)
    metrics.committed(5, 0.001)
    metrics.transferred("up", 1000, 0.5)

    found = read(metrics)

    assert found["jobsphere_calls_total", "code=OK", "method=/a.S/Get"] == 1
    assert found["jobsphere_calls_total", "code=NOT_FOUND", "method=/a.S/Get"] == 1
    assert found["jobsphere_call_seconds_count", "method=/a.S/Get"] == 2
    assert found["jobsphere_store_writes_total",] == 5
    assert found["jobsphere_store_commit_seconds_count",] == 1
    assert found["jobsphere_file_bytes_total", "direction=up"] == 1000
    assert (found["jobsphere_jobs_running",], found["jobsphere_jobs_waiting",]) == (1, 2)
    assert found["jobsphere_node_cpus", "node=big", "of=free"] == 1.5
    assert found["jobsphere_node_condition", "condition=draining", "node=big"] == 1
    assert found["jobsphere_node_condition", "condition=ready", "node=big"] == 0
    assert found["process_resident_memory_bytes",] > 0


def test_a_value_on_a_bound_is_not_above_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (1.0, 1.5, 9.0):
        histogram.add(value)
    assert histogram.buckets() == [("1", 1), ("2", 2), ("+Inf", 3)]
