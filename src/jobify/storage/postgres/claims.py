"""Claims: one statement for each lane.

See ``claim`` in ``queries/claims.sql``. A claim that finds something to promote takes nothing; once that is promoted (a
bounded number of jobs, so that a hundred thousand overdue ones at a start cost no claim more than a few milliseconds),
it is made again. Rows that another transaction has locked are passed over: nothing is waited for.

A claim that takes long although it takes few jobs has passed over what is left of others; see ``places``.

Batches have a module of their own, ``batch_claims``.

A claim is made on the connection that reads, so that it runs beside a settlement. It is not flushed to the disk. If the
server crashes a moment later it has never been, and what has come of it is refused; the flush of a settlement, which is
later in the log, covers its claim.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from jobify.model.limit_gates import LimitState
from jobify.model.records import BatchRule, Claim, Claimed, ClaimRequest, TaskSlots
from jobify.model.status import ClaimScope
from jobify.storage.batch_decisions import Candidate, with_batches, with_single_jobs
from jobify.storage.postgres.arrays import needs_restoring, restored_row
from jobify.storage.postgres.batch_claims import BatchClaims
from jobify.storage.postgres.database import Database
from jobify.storage.postgres.doubt import Doubt
from jobify.storage.postgres.places import Places
from jobify.storage.postgres.statements import texts
from jobify.storage.suspicion import group_size
from jobify.types import Microseconds

__all__ = ("STEP", "Claims")

STEP: Final = 1000
"""Jobs that one claim promotes at most."""

_COLUMNS: Final = len(Claim._fields) - 1
"""Of a Claim; its limits are no column."""
_SEQ, _COUNT, _NEXT, _ASIDE = range(_COLUMNS, _COLUMNS + 4)
_TEXTS: Final = tuple(map(Claim._fields.index, ("id", "task", "queue", "rule", "options")))
_FURTHER: Final = "AND (-priority, jobs.due_at, seq) > ({0}.passed, {0}.after_due_at, {0}.after_seq)"
_SLOW: Final = 0.002
_SLOW_EACH: Final = 0.00003
"""Seconds, for a claim and for each job that it takes: what takes longer may have passed over others."""
_OLD: Final = 50
"""Transactions that have begun since a snapshot was taken."""
_PAUSE: Final = 1.0
_UNFLUSHED: Final = ", (SELECT set_config('synchronous_commit', 'off', true))"


class _Lane(NamedTuple):
    """What a claim has taken of a lane, and what else the answer needs."""

    claims: list[tuple[Claim, int]]
    """With the numbers of the rows."""
    is_more_left: bool
    next_due_at: Microseconds | None
    aside: int
    """What there is beside ordinary jobs, in whichever process: 1, jobs that run apart; 2, parked calls; 4, limits."""
    batches: Sequence[tuple[str, ...]] = ()
    batch_at: Microseconds | None = None
    """When the first batch goes that waits for more jobs."""


class _Source(NamedTuple):
    """Where a claim looks: texts of the statement, and their parameters."""

    fields: dict[str, str]
    parameters: Sequence[Any]


def _far(queues: tuple[str, ...] | None) -> _Source:
    """From the first job on."""
    in_queues = "" if queues is None else "AND queue = ANY ($8::text[])"
    lane = texts()["whole_lane"].replace("{in_queues}", in_queues)
    fields = {"lane": lane, "further_than_lane": "", "further_than_shares": ""}
    return _Source(fields, () if queues is None else (queues,))


def _near(places: Places) -> _Source:
    """From those places on that were reached before."""
    fields = {
        "lane": texts()["rest_of_lane"],
        "further_than_lane": _FURTHER.format("lane"),
        "further_than_shares": _FURTHER.format("shares"),
    }
    return _Source(fields, places.columns)


class Claims:
    """See :meth:`jobify.storage.base.Storage.claim`."""

    def __init__(self, database: Database, doubt: Doubt) -> None:
        self._database = database
        self._doubt = doubt
        self._batches = BatchClaims(database, doubt)
        self._checked_at = -_PAUSE
        self._places: dict[tuple[tuple[str, ...], tuple[str, ...] | None], Places] = {}
        self._next_due_at: Microseconds | None = None
        """What the last claim found: a hint that there is something to promote, which spares a claim in vain."""

    are_at_once = False

    def claim(self, request: ClaimRequest, *, now: Microseconds) -> Claimed:
        return with_single_jobs(self._claim(request, now=now), request)

    def _claim(self, request: ClaimRequest, *, now: Microseconds) -> Claimed:
        self._doubt.take_back()
        if request.scope is ClaimScope.APART:
            return Claimed(self._take_apart(request, now), False, None, self._next_apart(request, now) is not None)
        if request.scope is ClaimScope.PARKED:
            return self._take_parked(request, now)
        claimed, aside = self._take(request, now)
        if not aside & 1:
            return claimed
        if request.scope is ClaimScope.ANY and not (claimed.claims or claimed.has_more):
            claimed = claimed._replace(claims=self._take_apart(request, now))
        return claimed._replace(has_suspects=self._next_apart(request, now) is not None)

    def ready(
        self, lane: TaskSlots, rule: BatchRule, queues: tuple[str, ...] | None, now: Microseconds
    ) -> Sequence[tuple[tuple[int, int, int], Candidate]]:
        """See :class:`jobify.storage.sql.batch_lines.ReadyJobs`."""
        return self._batches.look(lane, rule, queues).jobs

    def lock(self, lanes: Sequence[TaskSlots]) -> None:
        """See :class:`jobify.storage.sql.batch_lines.ReadyJobs`."""
        self._batches.lock(lanes)

    # -- ordinary jobs -------------------------------------------------------------------------------------------------

    def _take(self, request: ClaimRequest, now: Microseconds) -> tuple[Claimed, int]:
        due_by = now + request.ahead
        has_promoted = self._promote_if_due(due_by)
        claims: list[Claim] = []
        in_batches: list[Claim] = []
        batches: list[tuple[str, ...]] = []
        is_more_left, next_due_at, batch_at, aside = False, None, None, 0
        for slots in request.slots:
            lane = self._take_lane(request, slots, now, is_forced=has_promoted)
            next_due_at = self._next_due_at = lane.next_due_at
            if not has_promoted and self._promote_if_due(due_by):
                has_promoted = True
                lane = self._take_lane(request, slots, now, is_forced=True)
                next_due_at = self._next_due_at = lane.next_due_at
            some = claims if slots.batch is None else in_batches
            some += [claim for claim, _ in lane.claims]
            batches += lane.batches
            batch_at = _earliest(batch_at, lane.batch_at)
            is_more_left = is_more_left or lane.is_more_left
            aside = lane.aside
        is_more_left = is_more_left or (next_due_at is not None and next_due_at <= due_by)
        claimed = Claimed(
            [*claims, *in_batches],
            is_more_left,
            _earliest(next_due_at, batch_at),
            has_parked=bool(aside & 2),
            has_limits=bool(aside & 4),
            batches=tuple(batches),
        )
        return claimed, aside

    def _promote_if_due(self, due_by: Microseconds) -> bool:
        """Bring what has become due to where claims look, if there is any; whether there was."""
        if self._next_due_at is None or self._next_due_at > due_by:
            return False
        self._next_due_at = None
        self._database.run("promote", due_by, STEP)
        return True

    def _take_lane(self, request: ClaimRequest, slots: TaskSlots, now: Microseconds, *, is_forced: bool) -> _Lane:
        if slots.batch is not None:
            return self._take_batches(request, slots, slots.batch, now, is_forced)
        key = slots.tasks, request.queues
        places = self._places.get(key)
        if places is not None and places.are_near:
            lane = self._take_of(request, slots, now, is_forced, _near(places))
            places.move(lane.claims)
            until = now + places.remaining
            return lane._replace(next_due_at=until if lane.next_due_at is None else min(until, lane.next_due_at))
        started = time.monotonic()
        lane = self._take_of(request, slots, now, is_forced, _far(request.queues))
        took = time.monotonic() - started
        if took > _SLOW + _SLOW_EACH * len(lane.claims) and lane.claims and self._is_held_up():
            self._places[key] = Places(took)
            self._places[key].move(lane.claims)
        return lane

    def _is_held_up(self) -> bool:
        """Whether a transaction is open that keeps old versions of many rows. Checked once a second at most."""
        if time.monotonic() < self._checked_at + _PAUSE:
            return False
        self._checked_at = time.monotonic()
        (age,) = self._database.rows("oldest_snapshot")
        return age is not None and age > _OLD

    def _take_of(
        self, request: ClaimRequest, slots: TaskSlots, now: Microseconds, is_forced: bool, source: _Source
    ) -> _Lane:
        number = random.getrandbits(63)
        parameters = [slots.tasks, slots.limit, request.owner, now, now + request.ahead, is_forced, number]
        unflushed = "" if self._database.is_in_block else _UNFLUSHED
        statement = self._database.sql("claim", unflushed=unflushed, **source.fields)
        with self._doubt.of(request.owner, number):
            rows = self._database.claim(statement, [*parameters, *source.parameters])
        count, next_due_at, aside = rows[0][_COUNT : _ASIDE + 1]
        taken = [] if rows[0][0] is None else rows
        return _Lane(_claims_of(taken), count > len(taken), next_due_at, aside)

    def _take_batches(
        self, request: ClaimRequest, slots: TaskSlots, rule: BatchRule, now: Microseconds, is_forced: bool
    ) -> _Lane:
        taken = self._batches.take(request, slots, rule, now, is_forced=is_forced)
        found = _claims_of(taken.rows)
        numbers = {claim.id: seq for claim, seq in found}
        claims, batches = with_batches([claim for claim, _ in found], taken.choice, lambda claim: numbers[claim.id])
        rows = [(claim, numbers[claim.id]) for claim in claims]
        choice = taken.choice
        return _Lane(rows, choice.has_more, taken.next_due_at, taken.aside, batches, choice.next_at)

    # -- jobs that ordinary claims pass over ---------------------------------------------------------------------------

    def _next_apart(self, request: ClaimRequest, now: Microseconds) -> tuple[int, int] | None:
        """The death whose suspects this request could take, and how many it had."""
        tasks = [task for lane in request.slots if lane.limit for task in lane.tasks]
        found = self._database.rows("next_apart", now, tasks, request.queues) if tasks else []
        return tuple(found[0]) if found else None

    def _take_apart(self, request: ClaimRequest, now: Microseconds) -> list[Claim]:
        """Take some of those that died together."""
        with self._database.atomic():
            found = self._next_apart(request, now)
            if found is None:
                return []
            death, company = found
            taken: list[Claim] = []
            for lane in request.slots:
                limit = min(lane.limit, group_size(company) - len(taken))
                if limit > 0:
                    place = (death, now, lane.tasks, request.queues, request.owner, limit)
                    taken += [claim for claim, _ in _claims_of(self._database.rows("take_apart", *place))]
        return taken

    def _take_parked(self, request: ClaimRequest, now: Microseconds) -> Claimed:
        """Take parked calls that did not fit other code than that of the request."""
        claims: list[Claim] = []
        has_more = False
        for lane in request.slots:
            if lane.limit > 0:
                place = (request.code, now, lane.tasks, request.queues, request.owner, lane.limit)
                taken = [claim for claim, _ in _claims_of(self._database.rows("take_parked", *place))]
                has_more = has_more or len(taken) >= lane.limit
                claims += taken
        return Claimed(claims, has_more, None)


def _earliest(first: Microseconds | None, second: Microseconds | None) -> Microseconds | None:
    return second if first is None else first if second is None else min(first, second)


def _claims_of(rows: Sequence[Sequence[Any]]) -> list[tuple[Claim, int]]:
    """Claims in the order of their lane, with the numbers of their rows."""
    if len(rows) > 1:
        rows = sorted(rows, key=_order_of)
    if needs_restoring({row[column] for column in _TEXTS for row in rows}):  # most texts are alike
        rows = [restored_row(row) for row in rows]
    return [(Claim._make((*row[:_COLUMNS], LimitState.NONE)), row[_SEQ]) for row in rows]


def _order_of(row: Sequence[Any]) -> tuple[int, int, int]:
    return -row[3], row[4], row[_SEQ]
