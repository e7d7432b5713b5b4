"""Limits in a SQL database: claims pass gates, ends of claims release what they held.

See :mod:`jobify.storage.limiting` for what is promised. A claim is made as if there were no limits; then, in the same
transaction, what its jobs need is looked up, and those that some gate does not admit are put back to wait there. So the
statements of claims know nothing of limits, and a database without any pays nothing.

Whether there are limits is said by each claim. The first one that says so was made without them: what it took is judged
in a transaction of its own, before it is answered.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from operator import attrgetter
from typing import Final, Protocol

from jobify.model.limit_gates import LimitDefinition, LimitKind, LimitRefusal
from jobify.model.records import Claim, Claimed, ClaimRequest, NewJob, Settled, Settlement
from jobify.model.status import JobStatus
from jobify.storage.batch_decisions import without_batches
from jobify.storage.limit_decisions import (
    admit,
    give_places,
    held_batches,
    is_next_in_line,
    left_room,
    needs_of,
    openings,
    places_of,
    with_states,
)
from jobify.storage.sql.batch_lines import BatchLines, ReadyJobs
from jobify.storage.sql.limit_definitions import LimitDefinitions
from jobify.storage.sql.limit_gates import Gates, Holder
from jobify.storage.sql.limit_lines import NOTHING_OPENED, Lines, Opened, by_task
from jobify.storage.sql.statements import Statements
from jobify.types import Microseconds

__all__ = ("Limits",)

_SCHEDULED: Final = JobStatus.SCHEDULED.value
_SWEEP: Final = 5.0
"""Seconds between two looks at what claims hold."""

_limits_of: Final = attrgetter("limits")
_WITHOUT: Final = frozenset((None,))


class Claims(ReadyJobs, Protocol):
    """How a database claims, as if there were no limits."""

    @property
    def are_at_once(self) -> bool:
        """Whether the claim that is being made must not wait."""
        ...

    def claim(self, request: ClaimRequest, *, now: Microseconds) -> Claimed: ...


class Settlements(Protocol):
    """How a database settles."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Settled]: ...


class Limits:
    """Claims and settlements where there may be limits."""

    def __init__(self, statements: Statements, claims: Claims, settlements: Settlements) -> None:
        self._statements = statements
        self._claims = claims
        self._settlements = settlements
        self._gates = Gates(statements)
        self._lines = Lines(statements, self._gates)
        self._batch_lines = BatchLines(statements, self._gates, self._lines, claims)
        self.definitions = LimitDefinitions(statements, self._gates, self._lines)
        self.are_defined = False
        """Whether the last claim has said that there are limits."""
        self._unjudged: list[Claim] = []
        self._unjudged_batches: list[tuple[str, ...]] = []
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
            self._unjudged_batches += claimed.batches
            claimed = claimed._replace(claims=[], has_more=True, batches=())
            with self._statements.together():
                judged = self._judged(claimed, request, now, NOTHING_OPENED)
        else:
            with self._statements.together():
                opened = self._open(request, now) if request.scope.covers_ordinary else NOTHING_OPENED
                claimed = self._claims.claim(request, now=now)
                if request.scope.covers_ordinary:
                    self.are_defined = claimed.has_limits
                judged = self._judged(claimed, request, now, opened)
        self._unjudged.clear()
        self._unjudged_batches.clear()
        return judged

    def _open(self, request: ClaimRequest, now: Microseconds) -> Opened:
        plain = without_batches(request)
        if len(plain.slots) == len(request.slots):
            return self._lines.open(request, now)
        return self._batch_lines.open(request, now).with_others(self._lines.open(plain, now))

    def _judged(self, claimed: Claimed, request: ClaimRequest, now: Microseconds, opened: Opened) -> Claimed:
        """Let those of the claims hold that their limits admit; the others wait."""
        claims = [*self._unjudged, *claimed.claims]
        batches = (*self._unjudged_batches, *claimed.batches)
        needs, unkeyed = needs_of(claims, self._task_limits([claim.task for claim in claims]))
        gates = self._gates.locked((key for need in needs for key in need.all_gates), opened.ended)
        decisions = admit(needs, gates, {id: called.place for id, called in opened.jobs.items()}, now, batches)
        holders = [
            (need.claim.id, need.claim.fence, gates[key].id, request.owner, need.unit)
            for need in decisions.held
            for key in need.holds
        ]
        self._statements.run_rows("hold_limits", holders)
        self._statements.run_for("give_up_keys", [need.claim.id for need in decisions.held])
        self._lines.leave(opened.jobs, {claim.id for claim in claims})
        self._lines.wait(decisions.refused, "refuse")
        self._lines.forget_ended(opened.ended, gates)
        self._gates.write(gates.values())
        gates_of_called = {id: called.gate for id, called in opened.jobs.items()}
        due = [claimed.next_due_at, opened.next_at, *openings(decisions)]
        due += self._statements.rows("next_opening", now) if self.are_defined else ()
        return claimed._replace(
            claims=with_states(claims, decisions, unkeyed),
            has_more=claimed.has_more or opened.has_more or left_room(gates_of_called, decisions, unkeyed),
            next_due_at=min((at for at in due if at is not None), default=None),
            moved=len(decisions.refused),
            batches=held_batches(batches, decisions, unkeyed),
        )

    def _task_limits(self, tasks: Sequence[str]) -> dict[str, list[LimitDefinition]]:
        return by_task(self._statements.rows_for("limits_of_tasks", list(dict.fromkeys(tasks))))

    def take_places(self, jobs: Sequence[NewJob], now: Microseconds) -> list[LimitRefusal | None]:
        """See :meth:`jobify.storage.limiting.LimitPort.take_places`."""
        with self._statements.together():
            places = places_of(jobs, self._task_limits([job.task for job in jobs]))
            if not places:
                return [None] * len(jobs)
            gates = self._gates.locked(key for place in places for key in place.all_gates)
            counts = self._count_waiters([[gates[key].id for key, _ in place.gates] for place in places])
            waiting = {key: counts[gate.id] for key, gate in gates.items()}
            given, refused = give_places(places, gates, waiting, now)
            self._lines.wait(given, "hold_back")
            self._gates.write(gates.values())
        return [refused.get(job.id) for job in jobs]

    def _count_waiters(self, gates: Sequence[Sequence[int]]) -> Counter[int]:
        """How many wait for each of these gates, which are those of some jobs."""
        counts = Counter[int]()
        one_of_several = {gate for its in gates if len(its) > 1 for gate in its}
        for name, ids in (("count_waiters", {gate for its in gates for gate in its}), ("count_others", one_of_several)):
            counts.update(dict(self._statements.rows_for(name, sorted(ids)) if ids else ()))
        return counts

    # -- ends of claims ------------------------------------------------------------------------------------------------

    def settle(self, settlements: Sequence[Settlement]) -> list[Settled]:
        """See :meth:`jobify.storage.base.Storage.settle`."""
        if _WITHOUT.issuperset(map(_limits_of, settlements)):
            return self._settlements.settle(settlements)
        with self._statements.together():
            met = self._settlements.settle(settlements)
            freed = self._settled([one for one, answer in zip(settlements, met, strict=True) if answer])
        return [
            Settled.FREED if answer is Settled.APPLIED and (one.id, one.fence) in freed else answer
            for one, answer in zip(settlements, met, strict=True)
        ]

    def _settled(self, settlements: Sequence[Settlement]) -> set[tuple[str, int]]:
        """Those of these claims for whose limits a job waits."""
        ends = {(one.id, one.fence): one for one in settlements if one.limits is not None}
        options = [(one.id, one.limits.options) for one in settlements if one.limits and one.limits.options]
        self._statements.run_rows("change_options", options)
        claims = [(one.id, one.fence, one.owner) for one in ends.values()]
        holders = self._gates.holders(self._statements.rows_of("holders_of_claims", claims))
        closings: dict[int, Microseconds] = {}
        kept: set[tuple[str, int]] = set()
        for holder in holders:
            its = ends[holder.id, holder.fence].limits
            if its is not None and its.closed_until is not None:
                closings[holder.gate] = its.closed_until
            if its is not None and its.is_kept:
                kept.add((holder.id, holder.fence))
        for id, fence in kept:
            self._statements.run("keep_holders", id, fence)
        at = max((one.finished_at or 0 for one in ends.values()), default=0)
        released = [holder for holder in holders if (holder.id, holder.fence) not in kept]
        gates, freed = self._gates.release_settled(released, closings, at)
        self._lines.go_back([
            (holder.id, holder.gate, gates[holder.gate].tat)
            for holder in holders
            if holder.gate in gates
            and gates[holder.gate].kind == LimitKind.FAIR
            and is_next_in_line(ends[holder.id, holder.fence])
        ])  # fmt: skip
        waited = {gate for gate in freed if gates[gate].is_waited}
        return {(holder.id, holder.fence) for holder in holders if holder.gate in waited}

    def let_go(self, id: str, owner: int, fence: int) -> bool:
        """See :meth:`jobify.storage.limiting.LimitPort.let_go`."""
        with self._statements.together():
            found = self._gates.holders(self._statements.rows_of("holders_of_claims", [(id, fence, owner)]))
            return any(gate.is_waited for gate in self._gates.release(found))

    def sweep(self) -> None:
        """Now and then: claims hold nothing any more that have ended without saying so, in a release that knows no
        limits, or by a call whose answer was lost."""
        if not self.are_defined or time.monotonic() < self._swept_at + _SWEEP:
            return
        self._swept_at = time.monotonic()
        if self._orphans():  # without a lock
            with self._statements.together():
                self._gates.release(self._orphans())

    def _orphans(self) -> list[Holder]:
        return self._gates.holders(self._statements.rows("orphaned_holders"))
