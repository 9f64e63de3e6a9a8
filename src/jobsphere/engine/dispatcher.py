"""Placing jobs: who runs now, where and with what, who waits, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice

from jobsphere.domain.capacity import Grant, Limits, Need, NodeCapacity
from jobsphere.domain.cluster import ClusterTypes
from jobsphere.domain.job import Job
from jobsphere.domain.node_ports import Condition
from jobsphere.engine.places import Place, Places
from jobsphere.engine.turns import Line, Project, Turns, Wish

_NAMED = 3
COUNTED = 10
"""How many before it a waiting job is told of: one that is far behind would else be written anew with every change."""


@dataclass(frozen=True, slots=True)
class _Holder:
    name: str
    project: Project
    grant: Grant


class Dispatcher:
    """Gives jobs what they need of the nodes: projects take turns, within a project the first comes first.

    A job runs when one of its types fits into what some node that is ready has free; the first that does, in its order
    of preference, is given, on the node with the fewest GPUs that are no use to it and the least left over. Of those
    that wait for the same types the first in turn has a node: what there is of its best type is kept for it there, so
    that those behind it take only what it could not use, and it never starves. What was given comes back only when no
    process is left.

    A job has its part as soon as it is its turn, whether or not it has been told yet (:meth:`turns`).
    """

    def __init__(self, types: ClusterTypes) -> None:
        self._types = types
        self._places = Places(types)
        self._turns = Turns()
        self._holders: dict[str, _Holder] = {}
        self._names: dict[str, str] = {}
        """Of those who wait: what their users call them."""
        self._untold: dict[str, None] = {}
        self._looked_at = 0
        self._open: dict[Place, None] = {}
        """The nodes on which somebody may start now: what they have free, or what is kept of it, has changed."""
        self._late: dict[str, None] | None = None
        """Who has come while those who waited before are being taken up; None: they are not."""
        self._places.refresh()

    @property
    def running(self) -> int:
        """How many attempts hold a part of a node."""
        return len(self._holders)

    @property
    def waiting(self) -> int:
        """How many jobs wait for a part of a node."""
        return len(self._turns)

    def free(self) -> Mapping[str, NodeCapacity]:
        """What is left of each node."""
        return {place.name: place.free for place in self._places}

    def holders(self, node: str | None = None) -> list[str]:
        """The ids of all that hold a part of this node, or of any."""
        return list(self._holders) if node is None else self._places.holders(node)

    def next_holders(self, at_most: int) -> list[str]:
        """The ids of the next few of them; after the last the first again."""
        holders = list(islice(self._holders, self._looked_at, self._looked_at + at_most))
        self._looked_at = self._looked_at + at_most if len(holders) == at_most else 0
        return holders

    def __contains__(self, job_id: str) -> bool:
        """Whether it holds a part of a node, or waits for one."""
        return job_id in self._holders or job_id in self._turns

    def front(self) -> list[str]:
        """The ids of the next few in the queue: those whose sentence may change with every job that ends."""
        return self._turns.front(COUNTED)

    def nodes_changed(self) -> list[str]:
        """Look at the nodes again. Gives the names of those that are new, gone or otherwise than before.

        A node that is away or draining gets nothing new and keeps its holders; those of one that is lost or gone keep
        what they hold until they are released.
        """
        changed, gone = self._places.refresh()
        for wish in self._turns.wishes():
            wish.nowhere = False
            if wish.claim in changed or wish.claim in gone:
                wish.claim = None
        self._open.update(dict.fromkeys(place for place in changed if place.ready))
        self._settle()
        return [place.name for place in [*changed, *gone]]

    def keep(self, job: Job, node: str | None = None) -> None:
        """The job holds what its attempt was given, on ``node`` if that is called otherwise by now."""
        if job.attempt is None or job.id in self._holders:
            return
        limits = job.attempt.limits or Limits(0, 0)
        self._give_up_waiting(job.id)
        grant = Grant(job.actual_instance_type, limits, job.attempt.note, node or job.attempt.node)
        self._hold(job.id, job.name, self._turns.project(job.project_id), grant)
        self._settle()

    def place(self, job: Job, at_once: int | None = None) -> Grant | None:
        """Give the job its part of a node if it is its turn; None if it has to wait.

        ``at_once``: how many jobs of its project may run at a time, from now on; None for any number.

        Asked again, for its placing could not be stored, the job has what it was given. While those are taken up who
        waited before this server led, nobody comes before them (:meth:`all_taken_up`).
        """
        if self._late is not None and job.id not in self:
            self._late[job.id] = None
            return None
        self._place(job, at_once)
        self._untold.pop(job.id, None)
        holder = self._holders.get(job.id)
        return holder.grant if holder else None

    def begin_taking_up(self) -> None:
        """From now on who waited before is told of, by :meth:`take_up`; then :meth:`all_taken_up`."""
        self._late = {}

    def take_up(self, job: Job, at_once: int | None) -> None:
        """As :meth:`place`, for a job that has waited since before this server led; :meth:`turns` tells of its turn."""
        self._place(job, at_once)

    def all_taken_up(self) -> list[str]:
        """The ids of those who have come meanwhile, and are to be placed now."""
        late, self._late = list(self._late or ()), None
        return late

    def _place(self, job: Job, at_once: int | None) -> None:
        project = self._turns.project(job.project_id)
        self._allow(project, at_once)
        self._take_back(job.id)
        if job.id not in self._holders and job.id not in self._turns:
            self._names[job.id] = job.name
            line = self._turns.add(job.id, project, job.spec.instance_types, job.spec.storage_bytes)
            if self._turns.first(line.wish) is line and len(line.jobs) == 1:
                self._seek(line.wish)
        self._settle()
        self._turns.forget(project)

    def release(self, job_id: str) -> list[str]:
        """The job needs nothing any more: the ids of those whose turn it is now, in their order."""
        self._untold.pop(job_id, None)
        self._give_up_waiting(job_id)
        holder = self._holders.pop(job_id, None)
        if holder is not None:
            self._come_back(job_id, holder)
        self._settle()
        return self.turns()

    def clear(self) -> None:
        """Forget who holds and who waits: another leads, and will have changed it by the next start."""
        self._turns, self._places = Turns(), Places(self._types)
        for known in (self._holders, self._names, self._untold, self._open):
            known.clear()
        self._looked_at, self._late = 0, None
        self._places.refresh()

    def turns(self) -> list[str]:
        """The ids of those whose turn has come since this was asked last, in their order."""
        untold = list(self._untold)
        self._untold.clear()
        return untold

    def why_waiting(self, job: Job) -> str:
        """The sentence for a job that waits: for what, how many are before it, and who runs."""
        if job.id not in self._turns:
            return "Waiting for a free place"
        line = self._turns.line(job.id)
        project, wish = line.project, line.wish
        if project.full:
            return f"Waiting: {project.running} jobs of this project run, as many as its quota allows at a time"
        if wish.claim is None or wish.claimed is None:
            return self._why_nowhere(wish)
        ahead = self._turns.ahead(job.id, COUNTED + 1)
        if ahead > COUNTED:
            return f"Waiting for {wish.claimed.words()} behind more than {COUNTED} others"
        names = [holder.name or job_id for job_id, holder in islice(self._holders.items(), _NAMED)]
        more = f" and {len(self._holders) - _NAMED} more" if len(self._holders) > _NAMED else ""
        others = f"; running: {', '.join(names)}{more}" if names else ""
        return f"Waiting for {wish.claimed.words()}, number {ahead + 1} in the queue{others}"

    def _why_nowhere(self, wish: Wish) -> str:
        """No node that is ready could ever give it."""
        wanted = " or ".join(wish.names)
        there = [place for place in self._places if place.node.condition is not Condition.LOST]
        able = [place for place in there if place.types.needs(wish.names, wish.storage_bytes)]
        if able:
            names = [f"{p.name} is {p.node.condition.value}{p.node.why and f' ({p.node.why})'}" for p in able[:_NAMED]]
            more = f", and {len(able) - _NAMED} more are not ready" if len(able) > _NAMED else ""
            return f"Waiting: no node that is ready has {wanted}: {', '.join(names)}{more}"
        if not there:
            return f"Waiting for a node that has {wanted}: no node is known yet"
        return f"Waiting: this server no longer has {wanted}; ask its operator, or cancel"

    # What follows keeps this true between calls: nobody who waits could start.

    def _settle(self) -> None:
        """Start all whose turn it is on the nodes where something has changed."""
        while self._open:
            place, _ = self._open.popitem()
            while place.ready and (next_one := self._next_on(place)) is not None:
                self._start(*next_one)
        for wish in self._turns.wishes():
            if wish.claim is None:
                self._claim(wish)

    def _next_on(self, place: Place) -> tuple[Line, Place, Need] | None:
        """Who is to start on this node now, those before it having what they wait for kept."""
        room = place.free
        if not any(place.fitting(wish.names, wish.storage_bytes, room) for wish in self._turns.wishes()):
            return None  # as nearly always: whose turn it is costs more to say
        for line in self._turns.firsts():
            if room.exhausted:
                return None
            wish = line.wish
            need = place.fitting(wish.names, wish.storage_bytes, room)
            if need is not None:
                return line, place, need
            if wish.claim is None:
                self._claim(wish)
            if wish.claim is place and wish.claimed is not None:
                room = room.reserving(wish.claimed)
        return None

    def _seek(self, wish: Wish) -> None:
        """Start all that can of those who want this, on whichever nodes."""
        while (line := self._turns.first(wish)) is not None:
            found = self._best(line)
            if found is None:
                break
            self._start(line, *found)
        if wish.claim is None:
            self._claim(wish)

    def _best(self, line: Line) -> tuple[Place, Need] | None:
        wish = line.wish
        for name in wish.names:
            for place, need in self._places.best(name, wish.storage_bytes):
                if self._room(place, line).fits(need):
                    return place, need
        return None

    def _room(self, place: Place, line: Line) -> NodeCapacity:
        """What is free of the node for the first of this line: what is kept for those before it is not."""
        room = place.free
        for wish in self._turns.wishes():
            if wish.claim is place and wish is not line.wish and wish.claimed is not None:
                other = self._turns.first(wish)
                if other is not None and other.order < line.order:
                    room = room.reserving(wish.claimed)
        return room

    def _claim(self, wish: Wish) -> None:
        if wish.claim is None and wish.lines and not wish.nowhere:
            taken = {other.claim.name for other in self._turns.wishes() if other.claim is not None}
            found = self._places.likeliest(wish.names, wish.storage_bytes, taken)
            if found is None:
                wish.nowhere = True
            else:
                wish.claim, wish.claimed = found

    def _start(self, line: Line, place: Place, need: Need) -> None:
        grant = place.types.grant(place.free, need)
        if grant is None:
            raise AssertionError(f"{need.words()} was found to fit on {place.name}, and does not")
        project = line.project
        self._unclaim(line.wish)
        project.running += 1  # so that it is not forgotten
        job_id = self._turns.start(line)
        project.running -= 1
        self._hold(job_id, self._names.pop(job_id, ""), project, replace(grant, node=place.name))
        self._untold[job_id] = None
        # Its project's others come later now: what was kept for them may be somebody else's.
        self._open.update(dict.fromkeys(wish.claim for wish in project.lines if wish.claim is not None))

    def _hold(self, job_id: str, name: str, project: Project, grant: Grant) -> None:
        self._holders[job_id] = _Holder(name, project, grant)
        project.running += 1
        self._places.hold(grant.node, job_id, grant.limits)

    def _come_back(self, job_id: str, holder: _Holder) -> None:
        project, was_full = holder.project, holder.project.full
        project.running -= 1
        place = self._places.give_back(holder.grant.node, job_id)
        if place is not None:
            self._open[place] = None
        if was_full:
            self._let_in(project)
        self._turns.forget(project)

    def _allow(self, project: Project, at_once: int | None) -> None:
        if project.at_once != at_once:
            project.at_once = at_once
            self._let_in(project)

    def _let_in(self, project: Project) -> None:
        """The project is full no more, as it may be: its jobs could start on any node."""
        if not project.full:
            for line in list(project.lines.values()):
                self._turns.queue(line)
            for wish in list(project.lines):
                self._seek(wish)

    def _take_back(self, job_id: str) -> None:
        """What was given and nowhere stored is given anew if its node has become unready meanwhile."""
        holder = self._holders.get(job_id)
        place = self._places.get(holder.grant.node) if holder else None
        if holder is not None and (place is None or not place.ready):
            del self._holders[job_id]
            self._come_back(job_id, holder)

    def _give_up_waiting(self, job_id: str) -> None:
        line = self._turns.remove(job_id)
        if line is None:
            return
        self._names.pop(job_id, None)
        if self._turns.first(line.wish) is None:
            self._unclaim(line.wish)
        for wish in list(line.project.lines):
            self._seek(wish)  # another one is the first of its project now, and comes before others perhaps

    def _unclaim(self, wish: Wish) -> None:
        if wish.claim is not None:
            self._open[wish.claim] = None
            wish.claim = None
