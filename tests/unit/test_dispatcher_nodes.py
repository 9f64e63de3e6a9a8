"""Placing over many nodes: which node is given, what is kept, who comes when, and nothing twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.world import NOW, a_spec

from jobsphere.domain.capacity import GIB, InstanceType, InstanceTypes, Limits, NodeCapacity
from jobsphere.domain.cluster import ClusterTypes
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.job import Attempt, Job
from jobsphere.domain.node_ports import Condition, Node
from jobsphere.engine.dispatcher import Dispatcher

TABLE = (
    InstanceType("small", 1, 2 * GIB),
    InstanceType("big", 8, 16 * GIB),
    InstanceType("gpu", 2, 4 * GIB, 1),
)
CPUS = NodeCapacity(8.0, 32 * GIB)
GPUS = NodeCapacity(8.0, 32 * GIB, (0, 1))


class Cluster:
    """Nodes that a test moves, and the dispatcher over them."""

    def __init__(self, **nodes: NodeCapacity) -> None:
        self.nodes = {name: Node(name, capacity) for name, capacity in nodes.items()}
        names = [kind.name for kind in TABLE]
        self.types = ClusterTypes(lambda: dict(self.nodes), lambda capacity: InstanceTypes(capacity, TABLE), names)
        self.dispatcher = Dispatcher(self.types)
        self.jobs: dict[str, Job] = {}
        self.held: dict[str, tuple[str, Limits]] = {}
        self.ended: Counter[str] = Counter()
        self.quota: dict[str, int] = {}

    def submit(self, name: str, *types: str, project: str = "p") -> str:
        """The node that it got; empty if it waits."""
        self.jobs[name] = Job(name, project, "ann", NOW, a_spec(instance_types=types), name=name)
        return self.place(name)

    def place(self, name: str) -> str:
        job = self.jobs[name]
        grant = self.dispatcher.place(job, self.quota.get(job.project_id))
        if grant is not None:
            self.held[name] = grant.node, grant.limits
        self.told()
        return grant.node if grant else ""

    def told(self) -> list[str]:
        """Those whose turn has come take what they have been given."""
        turns = self.dispatcher.turns()
        for name in turns:
            self.place(name)
        return turns

    def end(self, name: str) -> list[str]:
        self.ended[name] += self.held.pop(name, None) is not None
        turns = self.dispatcher.release(name)
        for other in turns:
            self.place(other)
        return turns

    def become(
        self, name: str, condition: Condition | None, capacity: NodeCapacity | None = None, why: str = ""
    ) -> None:
        if condition is None:
            self.nodes.pop(name, None)
        else:
            was = self.nodes.get(name)
            self.nodes[name] = Node(name, capacity or (was.capacity if was else CPUS), condition, why)
        self.dispatcher.nodes_changed()
        self.told()

    def why(self, name: str) -> str:
        return self.dispatcher.why_waiting(self.jobs[name])

    def waiting(self) -> list[str]:
        return [name for name in self.jobs if name in self.dispatcher and name not in self.held]


def test_a_job_goes_where_the_least_is_left_over() -> None:
    cluster = Cluster(a=CPUS, b=NodeCapacity(4.0, 32 * GIB), c=CPUS)
    assert [cluster.submit(f"j{i}", "small") for i in range(6)] == ["b", "b", "b", "b", "a", "a"]


def test_gpus_are_left_to_those_who_need_them_while_others_have_room() -> None:
    cluster = Cluster(a=GPUS, b=CPUS)
    assert [cluster.submit(f"j{i}", "small") for i in range(9)] == ["b"] * 8 + ["a"]
    assert cluster.submit("g", "gpu") == "a"


def test_the_first_preference_counts_before_the_better_node() -> None:
    cluster = Cluster(a=GPUS, b=CPUS)
    assert cluster.submit("g", "gpu", "small") == "a"
    assert cluster.submit("h", "gpu", "small") == "a"
    assert cluster.submit("i", "gpu", "small") == "b"


def test_a_node_that_drains_or_is_away_gets_nothing_and_keeps_what_it_has() -> None:
    for condition in (Condition.DRAINING, Condition.AWAY):
        cluster = Cluster(a=CPUS)
        cluster.submit("first", "big")
        cluster.become("a", condition, why="updated")
        cluster.submit("second", "big")
        assert cluster.why("second") == f"Waiting: no node that is ready has big: a is {condition.value} (updated)"
        assert cluster.end("first") == []
        cluster.become("a", Condition.READY)
        assert cluster.held["second"][0] == "a"


def test_what_jobs_hold_of_a_node_that_went_is_held_when_it_is_back() -> None:
    cluster = Cluster(a=CPUS)
    cluster.submit("first", "big")
    cluster.become("a", None)
    cluster.submit("second", "big")
    assert cluster.why("second") == "Waiting for a node that has big: no node is known yet"
    cluster.become("a", Condition.READY)
    assert cluster.waiting() == ["second"]
    assert cluster.end("first") == ["second"]


def test_a_node_that_joins_or_grows_is_used_at_once() -> None:
    cluster = Cluster(a=CPUS)
    for i in range(3):
        cluster.submit(f"j{i}", "big")
    cluster.become("b", Condition.READY)
    assert cluster.held["j1"][0] == "b"
    cluster.become("b", Condition.READY, NodeCapacity(16.0, 32 * GIB))
    assert cluster.held["j2"][0] == "b"


def test_what_was_given_and_not_yet_told_is_given_anew_if_its_node_went_away() -> None:
    cluster = Cluster(a=CPUS, b=CPUS)
    for name in ("x", "y", "z"):
        cluster.submit(name, "big")
    node = cluster.held.pop("x")[0]
    assert cluster.dispatcher.release("x") == ["z"]
    cluster.become(node, Condition.AWAY)
    assert cluster.place("z") == ""
    assert cluster.end("y") == ["z"]


def test_who_waits_for_a_large_node_is_not_starved_by_small_ones() -> None:
    cluster = Cluster(a=CPUS, b=NodeCapacity(4.0, 8 * GIB))
    for i in range(12):
        cluster.submit(f"s{i}", "small")
    cluster.submit("large", "big")
    cluster.submit("more", "small", project="q")
    on_a = [name for name, (node, _) in cluster.held.items() if node == "a"]
    assert [cluster.end(name) for name in on_a] == [[]] * 7 + [["large"]]
    assert cluster.end("s0") == ["more"]


def test_who_waits_for_a_gpu_keeps_its_turn_while_others_of_its_project_pass_it() -> None:
    cluster = Cluster(a=NodeCapacity(4.0, 32 * GIB, (0,)), b=CPUS)
    cluster.submit("holder", "gpu")
    cluster.submit("first", "gpu", project="p")
    cluster.submit("second", "gpu", project="q")
    for i in range(20):
        cluster.submit(f"s{i}", "small", project="p")
    for name in [name for name in cluster.held if name != "holder"]:
        cluster.end(name)
    assert "first" in cluster.end("holder")


def test_a_project_at_its_quota_keeps_nothing_and_goes_on_when_one_of_it_ends() -> None:
    cluster = Cluster(a=CPUS)
    cluster.quota["p"] = 1
    assert cluster.submit("a0", "small") == "a"
    assert cluster.submit("a1", "big") == ""
    assert cluster.why("a1") == "Waiting: 1 jobs of this project run, as many as its quota allows at a time"
    assert cluster.submit("b0", "small", project="q") == "a"
    assert cluster.end("b0") == []
    assert cluster.end("a0") == ["a1"]


def test_a_raised_quota_lets_those_who_wait_start() -> None:
    cluster = Cluster(a=CPUS)
    cluster.quota["p"] = 1
    for i in range(3):
        cluster.submit(f"a{i}", "small")
    cluster.quota["p"] = 2
    cluster.place("a2")
    assert cluster.waiting() == ["a2"]


def test_projects_take_turns_over_nodes() -> None:
    cluster = Cluster(a=CPUS, b=CPUS)
    cluster.submit("x", "big", project="z")
    cluster.submit("y", "big", project="z")
    for project in "abc":
        for i in range(3):
            cluster.submit(f"{project}{i}", "big", project=project)
    order: list[str] = []
    running = ["x", "y"]
    while running:
        turns = cluster.end(running.pop(0))
        order += turns
        running += turns
    assert order == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]


def test_a_type_that_only_a_lost_node_had_is_refused_and_one_that_is_away_promises_it() -> None:
    cluster = Cluster(a=GPUS, b=CPUS)
    cluster.types.check(["gpu"])
    cluster.become("a", Condition.AWAY)
    cluster.types.check(["gpu"])
    cluster.become("a", Condition.LOST)
    with pytest.raises(InvalidArgumentError, match=r"'gpu' to give; there are: small .*; big .*memory\)$"):
        cluster.types.check(["gpu"])


def test_before_any_node_is_known_what_the_table_promises_is_accepted() -> None:
    cluster = Cluster()
    cluster.types.check(["gpu"])
    with pytest.raises(InvalidArgumentError, match=r"'other' to give; there are: small, big, gpu$"):
        cluster.types.check(["other"])
    cluster.submit("j", "gpu")
    cluster.become("a", Condition.READY, GPUS)
    assert cluster.held["j"][0] == "a"


def test_a_restart_holds_what_attempts_have_on_each_node() -> None:
    cluster = Cluster(a=CPUS, b=CPUS)
    job = Job("old", "p", "ann", NOW, a_spec(instance_types=("big",)), name="old")
    cluster.dispatcher.keep(replace(job, attempt=Attempt("old-1", "a", NOW, Limits(8, 16 * GIB))))
    assert (cluster.submit("new", "big"), cluster.submit("newer", "big")) == ("b", "")


NODES = {"a": CPUS, "b": GPUS, "c": NodeCapacity(9.0, 24 * GIB), "d": NodeCapacity(2.0, 64 * GIB)}
WISHES = st.sampled_from([("small",), ("big",), ("gpu",), ("gpu", "small"), ("big", "gpu")])
STEP = st.one_of(
    st.tuples(st.just("submit"), WISHES, st.sampled_from("xyz")),
    st.tuples(st.just("end"), st.integers(0, 50), st.none()),
    st.tuples(st.just("become"), st.sampled_from(sorted(NODES)), st.sampled_from([*Condition, None])),
)


def check_nothing_is_given_twice(cluster: Cluster) -> None:
    of: dict[str, list[Limits]] = {}
    for node, limits in cluster.held.values():
        of.setdefault(node, []).append(limits)
    for name, held in of.items():
        has = NODES[name]
        assert sum(limits.cpus for limits in held) <= has.cpus
        assert sum(limits.memory_bytes for limits in held) <= has.memory_bytes
        gpus = [gpu for limits in held for gpu in limits.gpus]
        assert len(gpus) == len(set(gpus))
        assert set(gpus) <= set(has.gpus)


def check_nobody_waits_who_comes_first_and_fits(cluster: Cluster) -> None:
    """The one at the very front of the queue waits only where no ready node has room for it, or for its own project."""
    running = Counter(cluster.jobs[name].project_id for name in cluster.held)
    for name in cluster.dispatcher.front()[:1]:
        project = cluster.jobs[name].project_id
        if running[project] >= cluster.quota.get(project, len(cluster.jobs)):
            continue
        for node, free in cluster.dispatcher.free().items():
            needs = cluster.types.of(cluster.nodes[node]).needs(cluster.jobs[name].spec.instance_types)
            ready = cluster.nodes[node].condition is Condition.READY
            assert not (ready and any(free.fits(need) for need in needs)), f"{name} fits on {node}"


@given(st.lists(STEP, max_size=60))
def test_whatever_happens_nothing_is_given_twice_and_all_have_their_turn(steps: Sequence[tuple]) -> None:
    cluster = Cluster(**NODES)
    cluster.quota["x"] = 3
    for number, (what, one, other) in enumerate(steps):
        if what == "submit":
            cluster.submit(f"{other}{number}", *one, project=other)
        elif what == "end" and cluster.held:
            cluster.end(sorted(cluster.held)[one % len(cluster.held)])
        elif what == "become":
            cluster.become(one, other, NODES[one])
        check_nothing_is_given_twice(cluster)
        check_nobody_waits_who_comes_first_and_fits(cluster)
    for name, capacity in NODES.items():
        cluster.become(name, Condition.READY, capacity)
    while cluster.held:
        cluster.end(next(iter(cluster.held)))
        check_nothing_is_given_twice(cluster)
    assert cluster.ended == dict.fromkeys(cluster.jobs, 1)
    assert (cluster.dispatcher.running, cluster.dispatcher.waiting) == (0, 0)


@given(st.lists(st.tuples(WISHES, st.sampled_from("xyz")), min_size=1, max_size=40), st.integers(0, 3))
def test_who_waits_has_its_turn_though_others_never_cease_to_come(
    steps: Sequence[tuple[tuple[str, ...], str]], after: int
) -> None:
    """A job for the rarest node, behind some others, while each end brings a new one of other projects."""
    cluster = Cluster(**NODES)
    for number, (types, project) in enumerate(steps):
        cluster.submit(f"{project}{number}", *types, project=project)
    cluster.submit("rare", "gpu", project=("x", "y", "z", "w")[after])
    bound, ended = 20 * (len(steps) + 1), 0
    while "rare" not in cluster.held:
        types, project = steps[ended % len(steps)]
        cluster.end(next(iter(cluster.held)))
        cluster.submit(f"new{ended}", *types, project=project)
        ended += 1
        assert ended < bound, "it starves"


@given(st.lists(st.sampled_from("xyz"), min_size=30, max_size=60), WISHES)
def test_projects_that_all_wait_for_the_same_start_equally_often(owners: Sequence[str], types: tuple[str, ...]) -> None:
    cluster = Cluster(a=GPUS)
    for number, project in enumerate(owners):
        cluster.submit(f"{project}{number}", *types, project=project)
    left = Counter(cluster.jobs[name].project_id for name in cluster.waiting())
    turns: Counter[str] = Counter()
    while len(left) == 3 and all(left.values()):
        for name in cluster.end(next(iter(cluster.held))):
            turns[name[0]] += 1
            left[name[0]] -= 1
        assert max(turns.values(), default=0) - min(turns[p] for p in "xyz") <= 1


def test_far_behind_a_new_job_costs_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(a=CPUS)
    for i in range(30):
        cluster.submit(f"j{i}", "big")
    monkeypatch.setattr(cluster.dispatcher._places, "best", None)
    assert cluster.submit("last", "big") == ""
    assert "behind more than 10 others" in cluster.why("last")
