"""What the keeper of Ray's nodes decides, of what Ray says and what it has intended."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobsphere.ray_nodes.plan import RayNode, plan

ONE = RayNode("1a", "one", True, {"CPU": 4, "memory": 8e9, "node:10.0.0.1": 1}, address="10.0.0.1")
TWO = replace(ONE, id="2a", name="two")
HEAD = RayNode("0a", "head", True, {"node:__internal_head__": 1})
DEAD = replace(ONE, alive=False, resources={}, why="health check failed")
BACK = replace(ONE, id="1b")


def test_every_node_with_cpus_gets_an_agent_and_keeps_it() -> None:
    assert plan([HEAD, ONE, TWO], {}, set()).start == [ONE, TWO]
    assert plan([HEAD, ONE, TWO], {"1a": "one"}, {"1a"}).start == [TWO]


def test_what_was_intended_and_not_started_is_started() -> None:
    assert plan([ONE], {"1a": "one"}, set()).start == [ONE]


def test_where_nodes_are_marked_only_those_get_agents_even_when_they_are_dead() -> None:
    marked = replace(TWO, resources={"CPU": 2, "jobsphere": 1})
    assert plan([ONE, marked], {}, set()).start == [marked]
    assert plan([ONE, replace(DEAD, id="2a")], {}, set(), only_marked=True).start == []


def test_a_dead_node_is_lost_with_what_ray_says_and_once() -> None:
    todo = plan([HEAD, DEAD], {"1a": "one"}, {"1a"})
    assert [(loss.ray_id, loss.name) for loss in todo.lose] == [("1a", "one")]
    assert "health check failed" in todo.lose[0].reason
    assert not todo.start
    assert plan([HEAD, DEAD], {}, set()).lose == []


def test_a_dead_node_that_never_had_an_agent_is_nobodys_loss() -> None:
    assert plan([DEAD, TWO], {"2a": "two"}, {"2a"}).lose == []


def test_a_node_that_is_back_under_a_new_id_is_not_lost_for_its_old_one() -> None:
    todo = plan([DEAD, BACK], {"1a": "one"}, {"1a"})
    assert (todo.lose, todo.drop, todo.start) == ([], ["1a"], [BACK])


def test_a_head_without_memory_makes_nothing_lost() -> None:
    todo = plan([HEAD], {"1a": "one"}, set())
    assert (todo.lose, todo.drop, todo.start) == ([], [], [])
    assert "jobsphere node lost one" in todo.remarks[0]


def test_of_two_nodes_of_one_name_the_one_with_the_agent_keeps_it() -> None:
    again = replace(ONE, id="0b")
    todo = plan([again, ONE], {"1a": "one"}, {"1a"})
    assert (todo.start, todo.lose) == ([], [])
    assert "more than one node of the name one" in todo.remarks[0]


@pytest.mark.parametrize(
    ("ray", "name"),
    [("10.0.0.1", "10.0.0.1"), ("::1", "1"), ("pod/7 x", "pod-7-x"), ("..", "1a"), ("n" * 99, "n" * 63)],
)
def test_a_name_is_one_that_a_node_may_have(ray: str, name: str) -> None:
    assert replace(ONE, name=ray).node_name == name
