"""Limits in a SQL database: claims pass gates, ends of claims release what they held.

See :mod:`jobify.storage.limiting` for what is promised. A claim is made as if there were no limits; then, in the same
transaction, what its jobs need is looked up, and those that some gate does not admit are put back to wait there. So the
statements of claims know nothing of limits, and a database without any pays nothing.

Whether there are limits is said by each claim. The first one that says so was made without them: what it took is judged
in a transaction of its own, before it is answered.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple, Protocol

from jobify.model.limit_gates import LimitDefinition, LimitGate, LimitRecord, LimitRefusal, LimitWait
from jobify.model.records import Claim, Claimed, ClaimRequest, NewJob, Settled, Settlement
from jobify.model.status import ClaimScope
from jobify.storage.limit_decisions import (
    GateKey,
    Need,
    admit,
    give_places,
    needs_of,
    openings,
    places_of,
    with_states,
)
from jobify.storage.sql.gates import change, gate_of, gates_by_id, locked_gates
from jobify.storage.sql.statements import Row, Statements
from jobify.types import Microseconds

__all__ = ("Limits", "release_limits")

_ORDINARY: Final = (ClaimScope.ANY, ClaimScope.ORDINARY)
_TRIES: Final = 3
"""Looks at the head of a line, where stale entries may stand."""

_SWEEP: Final = 5.0
"""Seconds between two looks at what claims hold."""

_limits_of: Final = attrgetter("limits")
_WITHOUT: Final = frozenset((None,))


class _Holder(NamedTuple):
    """What a claim holds."""

    number: int
    id: str
    fence: int
    gate: int


class Claims(Protocol):
    """How a database claims, as if there were no limits."""

    @property
    def are_at_once(self) -> bool:
        """Whether the claim that is being made must not wait."""
        ...

    def claim(self, request: ClaimRequest, *, now: Microseconds) -> Claimed: ...


class Settlements(Protocol):
    """How a database settles."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Settled]: ...


class _Opened(NamedTuple):
    """What was let go on before a claim."""

    lines: list[tuple[int, str, str]]
    """Gate, task and queue of lines that have come to their end."""
    has_more: bool


class Limits:
    """See :class:`jobify.storage.limiting.LimitPort`."""

    def __init__(self, statements: Statements, claims: Claims, settlements: Settlements) -> None:
        self._statements = statements
        self._claims = claims
        self._settlements = settlements
        self.are_defined = False
        """Whether the last claim has said that there are limits."""
        self._unjudged: list[Claim] = []
        """What was claimed without limits, and could not be judged yet."""
        self._swept_at = -_SWEEP

    # -- claims --------------------------------------------------------------------------------------------------------

    def claim(self, request: ClaimRequest, *, now: Microseconds) -> Claimed:
        """See :meth:`jobify.storage.base.Storage.claim`."""
        if not self.are_defined or self._claims.are_at_once:
            claimed = self._claims.claim(request, now=now)
            if not claimed.has_limits:
                return claimed
            self.are_defined = True
            self._unjudged += claimed.claims
            with self._statements.together():
                judged = self._judged(claimed._replace(claims=[]), request, now, _Opened([], True))
        else:
            with self._statements.together():
                opened = self._open(request, now)
                claimed = self._claims.claim(request, now=now)
                if request.scope in _ORDINARY:
                    self.are_defined = claimed.has_limits
                judged = self._judged(claimed, request, now, opened)
        self._unjudged.clear()
        return judged

    def _judged(self, claimed: Claimed, request: ClaimRequest, now: Microseconds, opened: _Opened) -> Claimed:
        """Let those of the claims hold that their limits admit; the others wait."""
        claims = [*self._unjudged, *claimed.claims]
        tasks = list(dict.fromkeys(claim.task for claim in claims))
        needs, unkeyed = needs_of(claims, self._task_limits(tasks))
        gates = self._gates([key for need in needs for key in need.gates], [gate for gate, _, _ in opened.lines])
        decisions = admit(needs, gates, now)
        self._hold(request.owner, decisions.held, gates)
        self._wait(decisions.refused, "refuse")
        self._drop_lines(opened.lines, gates)
        change(self._statements, gates.values())
        due = [claimed.next_due_at, *openings(decisions)]
        due += self._statements.rows("next_opening", now) if self.are_defined else ()
        return claimed._replace(
            claims=with_states(claims, decisions, unkeyed),
            has_more=claimed.has_more or opened.has_more,
            next_due_at=min((at for at in due if at is not None), default=None),
            moved=len(decisions.refused),
        )

    def _gates(self, keys: Iterable[GateKey], others: Sequence[int]) -> dict[GateKey, LimitGate]:
        """The gates of these keys, and others by their ids, locked."""
        wanted = list(dict.fromkeys(keys))
        found = self._gates_of_keys(wanted)
        missing = sorted(set(wanted) - {(gate.name, gate.key) for gate in found})
        if missing:
            self._statements.run_rows("add_gates", missing)
            found += self._gates_of_keys(missing)
        known = {gate.id for gate in found}
        if self._statements.locks_rows:
            found = locked_gates(self._statements, known.union(others))
        else:
            found += locked_gates(self._statements, set(others) - known)
        return {(gate.name, gate.key): gate for gate in found}

    def _gates_of_keys(self, keys: Sequence[GateKey]) -> list[LimitGate]:
        return [gate_of(columns) for columns in self._statements.rows_of("gates_of_keys", keys)]

    def _hold(self, owner: int, held: Sequence[Need], gates: Mapping[GateKey, LimitGate]) -> None:
        rows = [(need.claim.id, need.claim.fence, gates[key].id, owner) for need in held for key in need.gates]
        self._statements.run_rows("hold_limits", rows)

    def _wait(self, jobs: Sequence[tuple[Claim | NewJob, LimitGate]], how: str) -> None:
        """Have each of these wait at a gate; ``how``: the statement that blocks them."""
        rows = [(job.id, gate.id) for job, gate in jobs]
        self._statements.run_rows(how, rows)
        self._statements.run_rows("add_waiters", rows)
        lines = dict.fromkeys((gate.id, job.task, job.queue) for job, gate in jobs)
        self._statements.run_rows("add_lanes", list(lines))

    # -- jobs that wait ------------------------------------------------------------------------------------------------

    def _open(self, request: ClaimRequest, now: Microseconds) -> _Opened:
        """Let jobs go on that wait at open gates: of the request's tasks and queues, as many as may be taken."""
        tasks = [task for lane in request.slots if lane.limit for task in lane.tasks]
        most = sum(lane.limit for lane in request.slots)
        queues = None if request.queues is None else json.dumps(request.queues)
        found = self._statements.rows_for("open_lanes", tasks, now, queues, queues) if tasks else []
        lines = [tuple(line) for line in found]
        gates = gates_by_id(self._statements, sorted({gate for gate, _, _ in lines}))
        room = {gate.id: min(gate.room(now), most) for gate in gates}
        ended: list[tuple[int, str, str]] = []
        for _ in range(_TRIES):
            lines = [line for line in lines if room[line[0]] > 0]
            if not lines:
                return _Opened(ended, False)
            short = self._open_lines(lines, room)
            ended += [line for line in lines if line in short]
            lines = [line for line in lines if line not in short]
        return _Opened(ended, bool(lines))

    def _open_lines(self, lines: Sequence[tuple[int, str, str]], room: dict[int, int]) -> set[tuple[int, str, str]]:
        """Let the first ones of these lines go on, and take them off the room; the lines that are at their end."""
        short: set[tuple[int, str, str]] = set()
        for most in sorted({room[gate] for gate, _, _ in lines}):
            some = [line for line in lines if room[line[0]] == most]
            places: Counter[tuple[int, str, str]] = Counter()
            found = []
            for gate, task, queue, seq, is_free in self._statements.rows_of("first_waiters", some, most + 1):
                places[gate, task, queue] += 1
                if places[gate, task, queue] <= most:
                    found.append((gate, seq, is_free))
            short |= {line for line in some if places[line] <= most}
            self._statements.run_for("admit_waiters", [seq for _, seq, is_free in found if is_free is not None])
            self._statements.run_for("drop_waiters", [seq for _, seq, _ in found])
            for gate, _, is_free in found:
                room[gate] -= bool(is_free)
        return short

    def _drop_lines(self, lines: Sequence[tuple[int, str, str]], gates: Mapping[GateKey, LimitGate]) -> None:
        """Forget those of these lines in which no job waits; the gates are locked."""
        if not lines:
            return
        ids = list(dict.fromkeys(gate for gate, _, _ in lines))
        self._statements.run_for("drop_lanes", ids)
        waited = set(self._statements.rows_for("waited_gates", ids))
        for gate in gates.values():
            if gate.id in ids:
                gate.is_waited = gate.id in waited

    def take_places(self, jobs: Sequence[NewJob], now: Microseconds) -> list[LimitRefusal | None]:
        """See :meth:`jobify.storage.limiting.LimitPort.take_places`."""
        with self._statements.together():
            places = places_of(jobs, self._task_limits(list(dict.fromkeys(job.task for job in jobs))))
            gates = self._gates([key for place in places for key, _ in place.gates], ())
            counts = dict(self._statements.rows_for("count_waiters", [gate.id for gate in gates.values()]))
            waiting = {key: counts.get(gate.id, 0) for key, gate in gates.items()}
            given, refused = give_places(places, gates, waiting, now)
            self._wait([(place.job, gate) for place, gate in given], "hold_back")
            change(self._statements, gates.values())
        return [refused.get(job.id) for job in jobs]

    # -- ends of claims ------------------------------------------------------------------------------------------------

    def settle(self, settlements: Sequence[Settlement]) -> list[Settled]:
        """See :meth:`jobify.storage.base.Storage.settle`."""
        if _WITHOUT.issuperset(map(_limits_of, settlements)):
            return self._settlements.settle(settlements)
        with self._statements.together():
            met = self._settlements.settle(settlements)
            freed = self._settled([one for one, answer in zip(settlements, met, strict=True) if answer])
        return [
            Settled.CASCADED if answer and (one.id, one.fence) in freed else answer
            for one, answer in zip(settlements, met, strict=True)
        ]

    def _settled(self, settlements: Sequence[Settlement]) -> set[tuple[str, int]]:
        """Those of these claims for whose limits a job waits."""
        said = {(one.id, one.fence): one.limits for one in settlements if one.limits is not None}
        options = [(one.id, one.limits.options) for one in settlements if one.limits and one.limits.options]
        self._statements.run_rows("change_options", options)
        claims = [(one.id, one.fence, one.owner) for one in settlements if one.limits is not None]
        holders = _holders(self._statements.rows_of("holders_of_claims", claims))
        closings: dict[int, Microseconds] = {}
        kept: list[_Holder] = []
        for holder in holders:
            its = said[holder.id, holder.fence]
            if its.closed_until is not None:
                closings[holder.gate] = its.closed_until
            if its.is_kept:
                kept.append(holder)
        self._statements.run_for("keep_holders", [holder.number for holder in kept])
        waited = _drop(self._statements, [holder for holder in holders if holder not in kept], closings)
        return {(holder.id, holder.fence) for holder in holders if holder.gate in waited}

    def let_go(self, id: str, owner: int, fence: int) -> bool:
        """See :meth:`jobify.storage.limiting.LimitPort.let_go`."""
        with self._statements.together():
            found = self._statements.rows_of("holders_of_claims", [(id, fence, owner)])
            return bool(_drop(self._statements, _holders(found), {}))

    def sweep(self) -> None:
        """Now and then: claims hold nothing any more that have ended without saying so, in a release that knows no
        limits, or by a call whose answer was lost."""
        if not self.are_defined or time.monotonic() < self._swept_at + _SWEEP:
            return
        self._swept_at = time.monotonic()
        if self._statements.rows("orphaned_holders"):  # without a lock
            with self._statements.together():
                _drop(self._statements, _holders(self._statements.rows("orphaned_holders")), {})

    # -- definitions ---------------------------------------------------------------------------------------------------

    def _task_limits(self, tasks: Sequence[str]) -> dict[str, list[LimitDefinition]]:
        return _by_task(self._statements.rows_for("limits_of_tasks", tasks))

    def define(self, tasks: Mapping[str, Sequence[LimitDefinition]], now: Microseconds) -> None:
        """See :meth:`jobify.storage.limiting.LimitPort.define_limits`."""
        names = sorted(tasks)
        with self._statements.atomic():
            if self._task_limits(names) == {task: list(limits) for task, limits in tasks.items() if limits}:
                return
            self.are_defined = True  # perhaps; the next claim says it
            self._statements.run_for("drop_task_limits", names)
            rows = [(task, place, one.name) for task in names for place, one in enumerate(tasks[task])]
            self._statements.run_rows("add_task_limits", rows)
            self._free_misplaced(names)
            limits = {one.name: tuple(one) for task in names for one in tasks[task]}
            former = self._gates_of_limits(list(limits))
            self._statements.run_rows("define_limits", [limits[name] for name in sorted(limits)])
            self._recompute(former, now)

    def _free_misplaced(self, tasks: Sequence[str]) -> None:
        """Let those go on that wait at a limit which their task does not have any more."""
        found = self._statements.rows_for("misplaced_waiters", tasks)
        self._statements.run_for("admit_waiters", [seq for seq, is_waiting in found if is_waiting])
        self._statements.run_for("drop_waiters", [seq for seq, _ in found])

    def _gates_of_limits(self, names: Sequence[str]) -> list[LimitGate]:
        return locked_gates(self._statements, self._statements.rows_for("gates_of_limits", names))

    def _recompute(self, former: Sequence[LimitGate], now: Microseconds) -> None:
        """The limits of these gates, which are locked, have changed since they were read."""
        gates = gates_by_id(self._statements, [gate.id for gate in former])
        before = {gate.id: gate for gate in former}
        for gate in gates:
            gate.keep_count(before[gate.id], now)
        change(self._statements, gates)

    def set(self, name: str, *, key: str | None, maximum: int | None, now: Microseconds) -> None:
        """See :meth:`jobify.storage.limiting.LimitPort.set_limit`."""
        with self._statements.atomic():
            former = self._gates_of_limits([name])
            if maximum is None:
                self._statements.run("reset_limit", name, key or "")
            else:
                self._statements.run("set_limit", name, key or "", maximum)
                self._statements.run_rows("add_gates", [] if key is None else [(name, key)])  # so that it is listed
            self._recompute(former, now)

    # -- reading -------------------------------------------------------------------------------------------------------

    def all(self) -> list[LimitRecord]:
        """See :meth:`jobify.storage.limiting.LimitPort.limits`."""
        return sorted(_record_of(columns) for columns in self._statements.read("list_limits"))

    def keys(self, name: str, *, limit: int) -> list[LimitRecord]:
        """See :meth:`jobify.storage.limiting.LimitPort.limit_keys`."""
        return [_record_of(columns) for columns in self._statements.read("list_limit_keys", name, limit)]

    def waits(self, ids: Sequence[str]) -> dict[str, LimitWait]:
        """See :meth:`jobify.storage.limiting.LimitPort.limit_waits`."""
        return dict(map(_wait_of, self._statements.read_for("limit_waits", ids)))

    def read_task_limits(self, tasks: Sequence[str]) -> dict[str, list[LimitDefinition]]:
        """See :meth:`jobify.storage.limiting.LimitPort.task_limits`."""
        return _by_task(self._statements.read_for("limits_of_tasks", tasks))


def _by_task(rows: Iterable[Row]) -> dict[str, list[LimitDefinition]]:
    found: dict[str, list[LimitDefinition]] = {}
    for task, *columns in rows:
        found.setdefault(task, []).append(LimitDefinition._make(columns))
    return found


def release_limits(statements: Statements, owners: Sequence[int]) -> None:
    """These owners hold no limits any more. Called inside the transaction that takes their jobs."""
    _drop(statements, _holders(statements.rows_for("holders_of_owners", owners)), {})


def _holders(rows: Iterable[Row]) -> list[_Holder]:
    return [_Holder._make(row) for row in rows]


def _drop(statements: Statements, holders: Sequence[_Holder], closings: Mapping[int, Microseconds]) -> set[int]:
    """These hold nothing any more; the gates among theirs for which a job waits."""
    counts = Counter(holder.gate for holder in holders)
    gates = locked_gates(statements, counts.keys() | closings.keys())
    for gate in gates:
        gate.release(counts[gate.id])
        if gate.id in closings:
            gate.close(closings[gate.id])
    change(statements, gates)
    statements.run_for("drop_holders", [holder.number for holder in holders])
    return {gate.id for gate in gates if gate.is_waited}


def _record_of(columns: Sequence[Any]) -> LimitRecord:
    record = LimitRecord._make(columns)
    return record._replace(is_set=bool(record.is_set), active=int(record.active), waiting=int(record.waiting))


def _wait_of(columns: Sequence[Any]) -> tuple[str, LimitWait]:
    """A row of ``limit_waits``."""
    id, *rest = columns
    return id, LimitWait._make(rest)
