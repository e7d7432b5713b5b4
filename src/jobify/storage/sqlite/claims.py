"""Claims: pick, then take.

To pick is to read, without a lock: with nothing to do, a claim writes nothing. To take is one statement by itself that
changes only what is still as it was picked (same row, same fence, still waiting). If another process was faster with
some of it, what was left is returned; if with all of it, the next try picks anew, and the last one picks under the
write lock.

**Staging.** Jobs of the future are in an index by due time; ready ones in an index by lane and order. A job that
becomes due moves over. That is bounded per claim (:data:`STEP`), so that a hundred thousand overdue jobs at a start
cost no claim more than a few milliseconds.

**Suspects**, jobs that run apart, are in neither index; see ``suspects``. To pick says whether there are any.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

from jobify.records import Claim, Claimed, ClaimRequest, Lane
from jobify.status import ClaimScope
from jobify.storage.sqlite.database import Database
from jobify.storage.sqlite.rows import Picked, claims_of, listed
from jobify.storage.sqlite.statements import chunks, id_values, row_values, sql
from jobify.storage.sqlite.suspects import Suspects
from jobify.storage.sqlite.values import bounded, completed
from jobify.types import Microseconds

__all__ = ("STEP", "Claims")

STEP: Final = 1000
"""Jobs that one claim stages at most."""

_TRIES: Final = 3


class _Page(NamedTuple):
    """What a claim would take, and what else the answer needs."""

    rows: list[Picked]
    is_more_left: bool
    next_due_at: Microseconds | None
    has_suspects: bool
    """Some job runs apart, whoever may run it."""


class Claims:
    """See :meth:`jobify.storage.base.Storage.claim`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._suspects = Suspects(database)
        self._next_due_at: Microseconds | None = None
        """What the last claim found: a hint that there is something to stage, which spares looking first."""

    def claim(self, request: ClaimRequest, *, now: Microseconds) -> Claimed:
        if request.scope is ClaimScope.APART:
            taken = self._suspects.claim(request, now=now)
            return Claimed(taken, False, None, self._suspects.is_any(request, now=now))
        picked, claimed = self._claim_ordinary(request, now=now)
        if not picked.has_suspects:
            return claimed
        if request.scope is ClaimScope.ANY and not (claimed.claims or claimed.has_more):
            claimed = claimed._replace(claims=self._suspects.claim(request, now=now))
        return claimed._replace(has_suspects=self._suspects.is_any(request, now=now))

    def _claim_ordinary(self, request: ClaimRequest, *, now: Microseconds) -> tuple[_Page, Claimed]:
        due_by = now + request.ahead
        is_staged = self._stage_if_due(self._next_due_at, due_by)
        for _ in range(_TRIES):
            picked = self._pick(request)
            if not is_staged and self._stage_if_due(picked.next_due_at, due_by):
                is_staged = True
                picked = self._pick(request)
            taken = self._take(request, picked.rows, now)
            if taken or not picked.rows:
                return picked, self._answer(picked, taken, due_by)
        with self._database.atomic():
            picked = self._pick(request)
            return picked, self._answer(picked, self._take(request, picked.rows, now), due_by)

    def _answer(self, picked: _Page, taken: list[Claim], due_by: Microseconds) -> Claimed:
        self._next_due_at = picked.next_due_at
        is_more_left = picked.is_more_left or len(taken) < len(picked.rows) or _is_due(picked.next_due_at, due_by)
        return Claimed(taken, is_more_left, picked.next_due_at)

    def _stage_if_due(self, next_due_at: Microseconds | None, due_by: Microseconds) -> bool:
        """Bring what has become due to where claims look, a bounded number at a time; whether there was a reason to."""
        if not _is_due(next_due_at, due_by):
            return False
        self._database.write(sql("promote"), (due_by, STEP))
        return True

    # -- picking -------------------------------------------------------------------------------------------------------

    def _pick(self, request: ClaimRequest) -> _Page:
        rows: dict[int, Picked] = {}
        is_more_left = has_suspects = False
        next_due_at = None
        for lane in request.lanes:
            picked = self._pick_lane(lane, request.queues)
            rows.update((row.seq, row) for row in picked.rows)
            is_more_left = is_more_left or picked.is_more_left
            next_due_at, has_suspects = picked.next_due_at, picked.has_suspects
        first = bounded(list(rows.values()))
        return _Page(first, is_more_left or len(first) < len(rows), next_due_at, has_suspects)

    def _pick_lane(self, lane: Lane, queues: tuple[str, ...] | None) -> _Page:
        """The first jobs of a lane: one more than wanted is asked for, to know whether there is more."""
        statement, parameters = _pick_statement(lane.tasks, queues)
        limit = lane.limit
        while True:
            try:
                text, payloads, next_due_at, has_suspects = self._database.row(statement, [*parameters, limit + 1])
            except sqlite3.DataError:  # payloads of a gigabyte in all do not fit into one answer
                if limit == 0:
                    raise
                limit //= 2
                continue
            rows = claims_of(text, payloads)
            return _Page(rows[: lane.limit], len(rows) > limit, next_due_at, bool(has_suspects))

    # -- taking --------------------------------------------------------------------------------------------------------

    def _take(self, request: ClaimRequest, rows: Sequence[Picked], now: Microseconds) -> list[Claim]:
        """Those of ``rows`` that nobody else was faster with."""
        pieces = list(chunks(rows))
        if len(pieces) <= 1:
            return [claim for piece in pieces for claim in self._take_piece(request, piece, now)]
        with self._database.atomic():
            return [claim for piece in pieces for claim in self._take_piece(request, piece, now)]

    def _take_piece(self, request: ClaimRequest, rows: Sequence[Picked], now: Microseconds) -> list[Claim]:
        owner, due_by = request.owner, now + request.ahead
        size, values = row_values([(row.seq, row.claim.fence) for row in rows])
        changed = self._database.write_unflushed(sql("take", rows=size), [owner, now, due_by, now, *values])
        if changed == 0:
            return []
        if changed < len(rows):
            ours = set(listed(self._database.row(sql("taken", rows=size), [*values, owner])[0]))
            rows = [row for row in rows if row.seq in ours]
        return [row.claim if row.payload_ref is None else completed(self._database, row) for row in rows]


def _is_due(due_at: Microseconds | None, now: Microseconds) -> bool:
    return due_at is not None and due_at <= now


def _pick_statement(tasks: tuple[str, ...], queues: tuple[str, ...] | None) -> tuple[str, list[str]]:
    size, parameters = id_values(tasks)
    if queues is None:
        return sql("pick", tasks=size, in_queues=""), parameters
    queue_size, queue_values = id_values(queues)
    in_queues = f"AND pairs.queue IN ({', '.join('?' * queue_size)})"
    return sql("pick", tasks=size, in_queues=in_queues), [*parameters, *queue_values]
