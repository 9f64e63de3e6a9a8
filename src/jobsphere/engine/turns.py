"""Who waits, in whose turn: projects take turns, and within a project the first comes first.

Jobs of a project that want the same stand in one line; of a line only the first need ever be looked at. So the cost of
a look is that of the kinds of wishes that there are, however many wait.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, islice

from jobsphere.domain.capacity import Need
from jobsphere.engine.places import Place


@dataclass(slots=True, eq=False)
class Project:
    """A project of which jobs wait or run.

    ``first_turn`` is the turn of its job that waits longest, and stays while that one waits; ``turn`` that of all
    behind it, and moves on with each of them that starts: who waits for a rare node neither loses its turn by those
    that pass it, nor lends it to them.
    """

    id: str
    first_turn: int = 0
    turn: int = 0
    at_once: int | None = None
    running: int = 0
    jobs: OrderedDict[str, Line] = field(default_factory=lambda: OrderedDict[str, Line]())
    lines: dict[Wish, Line] = field(default_factory=lambda: dict[Wish, Line]())

    @property
    def full(self) -> bool:
        """Whether as many of it run as may."""
        return self.at_once is not None and self.running >= self.at_once


@dataclass(slots=True, eq=False)
class Line:
    """Jobs of one project that want the same, in their order, with the numbers of their arrival."""

    project: Project
    wish: Wish
    jobs: OrderedDict[str, int] = field(default_factory=lambda: OrderedDict[str, int]())
    queued: int | None = None
    """The turn with which it stands in the wish's heap."""

    @property
    def first(self) -> str:
        """The id of the first job."""
        return next(iter(self.jobs))

    @property
    def turn(self) -> int:
        """The turn of the first job."""
        project = self.project
        return project.first_turn if next(iter(project.jobs.values())) is self else project.turn

    @property
    def order(self) -> tuple[int, int]:
        """By what the first job of this line and those of others are served."""
        return self.turn, self.jobs[self.first]


@dataclass(slots=True, eq=False)
class Wish:
    """What some jobs want: these types, in this order, with so much storage.

    ``claim``: the node where what there is of ``claimed`` is kept for the first of them.
    """

    names: tuple[str, ...]
    storage_bytes: int
    lines: int = 0
    heap: list[tuple[int, int, Line]] = field(default_factory=lambda: list[tuple[int, int, Line]]())
    claim: Place | None = None
    claimed: Need | None = None
    nowhere: bool = False
    """No node that is ready could give it, empty as it may be; until the nodes change."""


class Turns:
    """The queue of those who wait."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._projects: dict[str, Project] = {}
        self._waiting: OrderedDict[str, Project] = OrderedDict()
        """Those with jobs that wait, by the turn of the first of these."""
        self._wishes: dict[tuple[tuple[str, ...], int], Wish] = {}
        self._jobs: dict[str, Line] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    def line(self, job_id: str) -> Line:
        """Where the job waits."""
        return self._jobs[job_id]

    def project(self, project_id: str) -> Project:
        """The project, known from now on until nothing of it waits or runs."""
        project = self._projects.get(project_id)
        if project is None:
            project = self._projects[project_id] = Project(project_id)
        return project

    def wishes(self) -> Iterator[Wish]:
        """All that somebody waits for."""
        return iter(self._wishes.values())

    def add(self, job_id: str, project: Project, names: tuple[str, ...], storage_bytes: int) -> Line:
        """The job waits, behind all others of its project."""
        key = names, storage_bytes
        wish = self._wishes.get(key)
        if wish is None:
            wish = self._wishes[key] = Wish(names, storage_bytes)
        if not project.jobs:
            project.first_turn = project.turn = next(self._numbers)
            self._waiting[project.id] = project
        line = project.lines.get(wish)
        if line is None:
            line = project.lines[wish] = Line(project, wish)
            wish.lines += 1
        line.jobs[job_id] = next(self._numbers)
        project.jobs[job_id] = self._jobs[job_id] = line
        self.queue(line)
        return line

    def start(self, line: Line) -> str:
        """The first of the line waits no more, for it is its turn; its project's next turn comes after all others'."""
        project, job_id = line.project, line.first
        was_first = next(iter(project.jobs)) == job_id
        project.turn = next(self._numbers)
        if was_first:
            project.first_turn = project.turn
            self._waiting.move_to_end(project.id)
        self.remove(job_id)
        return job_id

    def remove(self, job_id: str) -> Line | None:
        """The job waits no more; where it waited."""
        line = self._jobs.pop(job_id, None)
        if line is None:
            return None
        project, wish = line.project, line.wish
        del line.jobs[job_id]
        del project.jobs[job_id]
        if not line.jobs:
            del project.lines[wish]
            wish.lines -= 1
            if not wish.lines:
                del self._wishes[wish.names, wish.storage_bytes]
        if project.jobs:
            self.queue(next(iter(project.jobs.values())))
            self.queue(line)
        else:
            del self._waiting[project.id]
            self.forget(project)
        return line

    def forget(self, project: Project) -> None:
        """Nothing need be known of a project of which nothing waits or runs."""
        if not project.jobs and not project.running:
            self._projects.pop(project.id, None)

    def queue(self, line: Line) -> None:
        """The line's first job may start as soon as it is its turn, unless its project is full."""
        if not line.jobs or line.project.full:
            return
        turn = line.turn
        if line.queued is None or turn < line.queued:
            line.queued = turn
            heapq.heappush(line.wish.heap, (turn, next(self._numbers), line))

    def first(self, wish: Wish) -> Line | None:
        """The line whose turn comes first among those that want this; None if none may start."""
        heap = wish.heap
        while heap:
            turn, _, line = heap[0]
            if turn != line.queued or not line.jobs or line.project.full:
                heapq.heappop(heap)
                if turn == line.queued:
                    line.queued = None
            elif turn != line.turn:
                line.queued = line.turn
                heapq.heapreplace(heap, (line.queued, next(self._numbers), line))
            else:
                return line
        return None

    def firsts(self) -> list[Line]:
        """The first line of each wish, in the order of their turns."""
        lines = [line for wish in self._wishes.values() if (line := self.first(wish)) is not None]
        if len(lines) > 1:
            lines.sort(key=lambda line: line.order)
        return lines

    def ahead(self, job_id: str, at_most: int) -> int:
        """How many are before the job if each project has one in its turn; ``at_most`` if it is that or more."""
        project = self._jobs[job_id].project
        own = next((i for i, other in enumerate(islice(project.jobs, at_most)) if other == job_id), at_most)
        before, passed = own, False
        for other in self._waiting.values():
            if before >= at_most or (passed and not own):
                break
            if other is project:
                passed = True
            elif not other.full:
                before += min(len(other.jobs), own + (not passed))
        return min(before, at_most)

    def front(self, at_most: int) -> list[str]:
        """The ids of those that are next, one of each project, round after round."""
        queues = [iter(project.jobs) for project in islice(self._waiting.values(), at_most)]
        found: list[str] = []
        while queues and len(found) < at_most:
            ids = [next(queue, None) for queue in queues]
            found += [job_id for job_id in ids if job_id is not None]
            queues = [queue for queue, job_id in zip(queues, ids, strict=True) if job_id is not None]
        return found[:at_most]
