"""Instance types on a node: what is offered, given, kept and refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.world import NOW, PROJECT, a_spec, alone

from jobsphere.domain.capacity import GIB, VENDOR_TYPES, Grant, InstanceType, InstanceTypes, Limits, NodeCapacity
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.job import Attempt, Job, WorkingStorage
from jobsphere.engine.dispatcher import Dispatcher

LAPTOP = NodeCapacity(8.0, 16 * GIB, storage_bytes=50 * GIB)
TABLE = (
    InstanceType("small", 1, 2 * GIB),
    InstanceType("big", 8, 16 * GIB),
    InstanceType("gpu", 2, 4 * GIB, 1),
    InstanceType("two-gpus", 2, 4 * GIB, 2),
)
SERVER = NodeCapacity(16.0, 64 * GIB, (0, 1), 500 * GIB)


def a_job(name: str, *types: str, project: str = PROJECT, storage_gb: int = 0) -> Job:
    storage = WorkingStorage(storage_gb) if storage_gb else None
    return Job(name, project, "ann", NOW, a_spec(instance_types=types, working_storage=storage), name=name)


def the_types(node: NodeCapacity = SERVER, table: Sequence[InstanceType] | None = TABLE) -> InstanceTypes:
    return InstanceTypes(node, table)


def placed(dispatcher: Dispatcher, job: Job) -> Grant:
    grant = dispatcher.place(job)
    assert grant is not None
    return grant


def test_a_laptop_offers_every_vendor_type_by_a_scale_that_lets_four_of_the_smallest_run() -> None:
    types = InstanceTypes(LAPTOP)
    offered = {need.instance_type: need for need in types.offered()}

    assert list(offered) == [kind.name for kind in VENDOR_TYPES]
    assert (offered["c1.4"].cpus, offered["c1.4"].memory_bytes) == (2.0, 4 * GIB)
    assert (offered["c1.8"].cpus, offered["c1.8"].memory_bytes) == (4.0, 8 * GIB)
    assert (offered["c1.80"].cpus, offered["c1.80"].memory_bytes) == (8.0, 16 * GIB)
    assert offered["c1.4"].note == "scaled down to this machine: 2 CPUs (all 8 while they are idle), 4 GiB of memory"
    assert offered["g1.1"].note.endswith("no GPUs")


def test_one_job_at_once_gets_all_of_a_laptop() -> None:
    need = InstanceTypes(LAPTOP, jobs_at_once=1).needs(["c1.4"])[0]

    assert (need.cpus, need.memory_bytes) == (4.0, 16 * GIB)


def test_a_large_machine_gives_the_types_in_full_and_says_nothing() -> None:
    types = InstanceTypes(NodeCapacity(64.0, 512 * GIB, (0, 1, 2, 3)))

    assert types.needs(["c1.8"])[0].note == ""
    assert types.needs(["g1.2"])[0].gpus == 2
    assert "4 GPUs" in types.needs(["g2.8"])[0].note


def test_the_operators_table_is_given_in_full_or_refused_with_the_list() -> None:
    types = alone(InstanceTypes(NodeCapacity(4.0, 8 * GIB), TABLE))

    types.check(["small"])
    with pytest.raises(InvalidArgumentError, match=r"no instance type 'big'.*small \(1 CPU, 2 GiB of memory\)$"):
        types.check(["small", "big"])
    with pytest.raises(InvalidArgumentError, match=r"no instance type 'c1\.4'"):
        types.check(["c1.4"])


def test_working_storage_is_scaled_on_a_laptop_and_refused_on_a_server() -> None:
    need = InstanceTypes(LAPTOP).needs(["c1.4"], 100 * GIB)[0]
    assert need.storage_bytes == 50 * GIB
    assert need.note.endswith("; 50 GiB of working storage instead of 100 GiB")

    alone(the_types()).check(["small"], 500 * GIB)
    with pytest.raises(InvalidArgumentError, match="501 GiB can never be given: the volume for it has 500 GiB"):
        alone(the_types()).check(["small"], 501 * GIB)


def test_the_first_type_that_fits_is_given() -> None:
    dispatcher = Dispatcher(alone(the_types()))
    first = placed(dispatcher, a_job("first", "two-gpus", "small"))
    second = placed(dispatcher, a_job("second", "gpu", "small"))

    assert (first.instance_type, first.limits.gpus) == ("two-gpus", (0, 1))
    assert (second.instance_type, second.limits.gpus) == ("small", ())


def test_gpus_are_given_to_one_job_at_a_time_and_come_back() -> None:
    dispatcher = Dispatcher(alone(the_types()))
    gpus = [placed(dispatcher, a_job(name, "gpu")).limits.gpus for name in ("a", "b")]

    assert gpus == [(0,), (1,)]
    third = a_job("c", "gpu")
    assert dispatcher.place(third) is None
    assert "gpu (2 CPUs, 4 GiB of memory, 1 GPU)" in dispatcher.why_waiting(third)
    assert dispatcher.release("a") == ["c"]
    assert placed(dispatcher, third).limits.gpus == (0,)


def test_a_job_that_waits_for_a_gpu_keeps_nobody_from_the_cpus_that_it_will_not_need() -> None:
    dispatcher = Dispatcher(alone(the_types()))
    placed(dispatcher, a_job("holder", "two-gpus"))
    assert dispatcher.place(a_job("waits", "gpu")) is None

    assert placed(dispatcher, a_job("behind", "small")).instance_type == "small"


def test_a_large_job_is_not_starved_by_small_ones() -> None:
    dispatcher = Dispatcher(alone(the_types(NodeCapacity(9.0, 64 * GIB))))
    small = [a_job(f"s{i}", "small") for i in range(4)]
    placed(dispatcher, small[0])
    placed(dispatcher, small[1])
    large = a_job("large", "big")
    assert dispatcher.place(large) is None
    assert dispatcher.place(small[2]) is None, "it would take what the large one needs"
    assert dispatcher.release("s0") == ["large"]


def test_storage_is_not_promised_twice() -> None:
    dispatcher = Dispatcher(alone(the_types()))
    assert placed(dispatcher, a_job("a", "small", storage_gb=300)).limits.storage_bytes == 300 * GIB
    assert dispatcher.place(a_job("b", "small", storage_gb=300)) is None
    assert placed(dispatcher, a_job("c", "small")), "it asks for none"


def test_what_an_attempt_was_given_is_held_after_a_restart() -> None:
    dispatcher = Dispatcher(alone(the_types()))
    attempt = Attempt("old-1", "here", NOW, Limits(2, GIB, gpus=(0,)))
    dispatcher.keep(replace(a_job("old", "gpu"), attempt=attempt, actual_instance_type="gpu"))

    assert placed(dispatcher, a_job("new", "gpu")).limits.gpus == (1,)


def test_a_job_whose_type_the_operator_took_away_says_so_and_lets_others_pass() -> None:
    dispatcher = Dispatcher(alone(the_types()))
    gone = a_job("gone", "renamed")

    assert dispatcher.place(gone) is None
    assert "no longer has renamed" in dispatcher.why_waiting(gone)
    assert placed(dispatcher, a_job("next", "small"))


def test_far_behind_the_sentence_does_not_change_with_every_job_that_ends() -> None:
    dispatcher = Dispatcher(alone(the_types(NodeCapacity(1.0, 64 * GIB))))
    jobs = [a_job(f"j{i}", "small") for i in range(30)]
    for job in jobs:
        dispatcher.place(job)
    before = dispatcher.why_waiting(jobs[-1])
    dispatcher.release("j0")
    dispatcher.place(jobs[1])

    assert "behind more than 10 others" in before
    assert dispatcher.why_waiting(jobs[-1]) == before


SHAPES = st.sampled_from([("small",), ("big",), ("gpu",), ("two-gpus", "small"), ("big", "gpu")])


@given(st.lists(st.tuples(SHAPES, st.sampled_from("ab"), st.booleans()), max_size=40))
def test_nothing_is_ever_given_twice_and_everybody_has_a_turn(steps: list[tuple[tuple[str, ...], str, bool]]) -> None:
    node = NodeCapacity(9.0, 24 * GIB, (0, 1))
    dispatcher = Dispatcher(alone(the_types(node)))
    waiting: dict[str, Job] = {}
    given_: dict[str, Limits] = {}

    def try_all(ids: Sequence[str]) -> None:
        for job_id in ids:
            grant = dispatcher.place(waiting[job_id])
            if grant is not None:
                given_[job_id] = grant.limits
                del waiting[job_id]
        held = list(given_.values())
        assert sum(limits.cpus for limits in held) <= node.cpus
        assert sum(limits.memory_bytes for limits in held) <= node.memory_bytes
        gpus = [gpu for limits in held for gpu in limits.gpus]
        assert len(gpus) == len(set(gpus))

    def end_one() -> None:
        oldest = next(iter(given_))
        del given_[oldest]
        try_all(dispatcher.release(oldest))

    for number, (types, project, ends) in enumerate(steps):
        job = a_job(f"{project}{number}", *types, project=project)
        waiting[job.id] = job
        try_all([job.id])
        if ends and given_:
            end_one()
    while given_:
        end_one()
    assert not waiting
