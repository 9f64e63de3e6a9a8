"""The store that fails on demand: where it was told to, and nowhere else."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from jobsphere.domain.errors import NotFoundError, UnavailableError
from jobsphere.domain.operation import Operation, OperationKind
from jobsphere.store.failing import FailingJobStore
from jobsphere.store.memory import MemoryJobStore


def operation(operation_id: str) -> Operation:
    return Operation(operation_id, OperationKind.DELETE, "p", "j", datetime(2026, 3, 1, tzinfo=UTC), "me")


@pytest.fixture
def store() -> FailingJobStore:
    return FailingJobStore(MemoryJobStore())


async def outcomes(store: FailingJobStore, calls: int) -> list[bool]:
    """Whether each of so many calls worked."""
    worked: list[bool] = []
    for _ in range(calls):
        try:
            await store.list_projects()
        except UnavailableError:
            worked.append(False)
        else:
            worked.append(True)
    return worked


async def test_a_call_that_fails_before_has_no_effect(store: FailingJobStore) -> None:
    store.fail("add_operation")
    with pytest.raises(UnavailableError, match="before"):
        await store.add_operation(operation("o"))
    with pytest.raises(NotFoundError):
        await store.get_operation("o")
    await store.add_operation(operation("o"))


async def test_a_call_that_fails_after_has_its_effect(store: FailingJobStore) -> None:
    store.fail("add_operation", after=True)
    with pytest.raises(UnavailableError, match="after"):
        await store.add_operation(operation("o"))
    assert await store.get_operation("o") == operation("o")


async def test_the_calls_that_fail_are_counted_from_now_on(store: FailingJobStore) -> None:
    await store.list_projects()
    store.fail("list_projects", nth=3, times=2)
    store.fail("get_project")
    assert await outcomes(store, 6) == [True, True, False, False, True, True]
    assert store.calls["list_projects"] == 7


async def test_any_call_can_be_meant(store: FailingJobStore) -> None:
    store.fail(nth=2)
    await store.list_projects()
    with pytest.raises(UnavailableError):
        await store.add_operation(operation("o"))


async def test_a_healed_store_does_not_fail(store: FailingJobStore) -> None:
    store.fail(times=100)
    assert await outcomes(store, 1) == [False]
    store.heal()
    assert await outcomes(store, 1) == [True]
