"""Claims: pick, then take.

To pick is to read, without a lock: with nothing to do, a claim writes nothing. To take is one statement by itself that
changes only what is still as it was picked (same row, same fence, still waiting). If another process was faster with
some of it, what was left is returned; if with all of it, the next try picks again, and the last one picks under the
write lock.

**Staging.** Jobs of the future are in an index by due time; ready ones in an index by lane and order. A job that
becomes due moves over. That is bounded per claim (:data:`STEP`), so that a hundred thousand overdue jobs at a start
cost no claim more than a few milliseconds.

**At once.** A claim on the event loop's thread, which must not wait, is made only in the plain case: a few jobs,
nothing to stage, nothing beside ordinary jobs, no large arguments. Whatever is not plain is found out before anything
is taken, and left to a thread that may wait.

**Batches** are chosen by a look, and picked and taken under the write lock, so that they stay whole; see
``batch_claims``.

**Suspects**, jobs that run apart, are in neither index; see ``suspects``. To pick says whether there are any.

**Damage.** A row that is picked under the write lock and cannot be taken is damaged, and so is one that fails a
statement. See ``damage``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

from jobify.exceptions import StorageUnavailableError
from jobify.model.records import BatchRule, Claim, Claimed, ClaimRequest, TaskSlots
from jobify.model.status import ClaimScope
from jobify.storage.batch_decisions import BatchChoice, Candidate, with_batches, with_single_jobs
from jobify.storage.sqlite.batch_claims import BatchLanes, lane_conditions
from jobify.storage.sqlite.damage import DAMAGE, Damage, is_damage
from jobify.storage.sqlite.database import Database
from jobify.storage.sqlite.rows import Picked, UnreadableError, claims_of
from jobify.storage.sqlite.special_claims import Suspects, claim_parked
from jobify.storage.sqlite.statements import chunks, decode_rows, row_values, sql
from jobify.storage.sqlite.values import MissingValueError, bounded, load_value
from jobify.types import Microseconds

__all__ = ("STEP", "Claims")

STEP: Final = 1000
"""Jobs that one claim stages at most."""

_TRIES: Final = 3
_MOST_AT_ONCE: Final = 16
"""Jobs of a lane that are claimed without waiting: more would keep the event loop for milliseconds."""

_Rows = list[tuple[int, Claim]]
"""Row numbers with claims."""


class _Page(NamedTuple):
    """What a claim would take, and what else the answer needs."""

    rows: _Rows
    references: dict[int, int]
    is_more_left: bool
    next_due_at: Microseconds | None
    aside: int
    """What there is beside ordinary jobs, in whichever process: 1, jobs that run apart; 2, parked calls; 4, limits."""
    choices: Sequence[BatchChoice] = ()
    """Batches, also those whose rows have not been read yet."""


class Claims:
    """See :meth:`jobify.storage.base.Storage.claim`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._suspects = Suspects(database)
        self._damage = Damage(database)
        self._batches = BatchLanes(database, self._damage)
        self._next_due_at: Microseconds | None = None
        """What the last claim found: a hint that there is something to stage, which spares looking first."""

    @property
    def are_at_once(self) -> bool:
        """Whether a claim is being made that must not wait. It is refused where there are limits."""
        return self._database.is_claiming_at_once

    def claim(self, request: ClaimRequest, *, now: Microseconds) -> Claimed:
        return with_single_jobs(self._claim(request, now=now), request)

    def _claim(self, request: ClaimRequest, *, now: Microseconds) -> Claimed:
        if self._database.is_claiming_at_once:
            return self._claim_at_once(request, now)
        if request.scope is ClaimScope.APART:
            taken = self._suspects.claim(request, now=now)
            return Claimed(taken, False, None, self._suspects.is_any(request, now=now))
        if request.scope is ClaimScope.PARKED:
            return claim_parked(self._database, request, now=now)
        picked, claimed = self._claim_ordinary(request, now=now)
        if not picked.aside & 1:
            return claimed
        if request.scope is ClaimScope.ANY and not (claimed.claims or claimed.has_more):
            claimed = claimed._replace(claims=self._suspects.claim(request, now=now))
        return claimed._replace(has_suspects=self._suspects.is_any(request, now=now))

    def ready(
        self, lane: TaskSlots, rule: BatchRule, queues: tuple[str, ...] | None, now: Microseconds
    ) -> Sequence[tuple[tuple[int, int, int], Candidate]]:
        """See :class:`jobify.storage.sql.batch_lines.ReadyJobs`."""
        return self._batches.look(lane, rule, queues, now).jobs

    def lock(self, lanes: Sequence[TaskSlots]) -> None:
        """The transaction has the write lock."""

    def _claim_at_once(self, request: ClaimRequest, now: Microseconds) -> Claimed:
        """The plain case; StorageUnavailableError for any other."""
        due_by, next_due_at = now + request.ahead, self._next_due_at
        is_plain = request.scope is ClaimScope.ORDINARY and not (
            self._damage.is_suspected or _is_due(next_due_at, due_by) or any(lane.batch for lane in request.slots)
        )
        self._damage.is_found = False
        rows: _Rows = []
        is_more_left = False
        for lane in request.slots if is_plain else ():
            statement, parameters = _pick_statement(lane.tasks, request.queues)
            limit = min(lane.limit, _MOST_AT_ONCE)
            text, payloads, next_due_at, aside = self._database.row(statement, [*parameters, limit + 1])
            picked = claims_of(text, payloads)
            is_known = not picked.references and {claim.task for _, claim in picked.rows} <= set(lane.tasks)
            is_plain = is_plain and is_known and not aside
            is_more_left = is_more_left or len(picked.rows) > limit
            rows += picked.rows[:limit]
        if not (is_plain and rows) or _is_due(next_due_at, due_by):
            raise StorageUnavailableError("This claim may have to wait. Make it in a thread that may.")
        page = _Page(rows, {}, is_more_left, next_due_at, 0)
        return self._answer(page, self._take_piece(request, rows, now), due_by, now)

    def _claim_ordinary(self, request: ClaimRequest, *, now: Microseconds) -> tuple[_Page, Claimed]:
        due_by = now + request.ahead
        self._damage.is_found = False
        staged = self._stage_if_due(self._next_due_at, due_by)
        is_locked = self._batches.are_locked
        for _ in range(_TRIES):
            page = self._pick(request, now, is_locked=is_locked)
            if staged is None and (staged := self._stage_if_due(page.next_due_at, due_by)) is not None:
                page = self._pick(request, now, is_locked=is_locked)
            if staged is not None and staged < STEP and _is_due(page.next_due_at, due_by):  # that could not be staged
                self._damage.stage_each(due_by, STEP, now)
                page = self._pick(request, now, is_locked=is_locked)
            if not is_locked and any(choice.batches for choice in page.choices):
                break
            taken = self._take(request, page.rows, now)
            if taken or not page.rows:
                return page, self._answer(page, taken, due_by, now)
        with self._database.atomic():
            page = self._pick(request, now, is_locked=True)
            taken = self._take(request, page.rows, now)
            ours = {claim.id for claim in taken}
            for seq, claim in page.rows:
                if claim.id not in ours:
                    self._damage.exclude(seq, "it is not what an index says of it", now)
            return page, self._answer(page, taken, due_by, now)

    def _answer(self, page: _Page, taken: list[Claim], due_by: Microseconds, now: Microseconds) -> Claimed:
        self._next_due_at = page.next_due_at
        is_more_left = page.is_more_left or len(taken) < len(page.rows) or _is_due(page.next_due_at, due_by)
        is_more_left = is_more_left or self._damage.is_found  # what is behind it has not been looked at
        if page.references:
            taken = self._with_arguments(page, taken, now)
        claimed = Claimed(
            taken, is_more_left, page.next_due_at, has_parked=bool(page.aside & 2), has_limits=bool(page.aside & 4)
        )
        return _with_batches(claimed, page) if page.choices else claimed

    def _with_arguments(self, page: _Page, taken: list[Claim], now: Microseconds) -> list[Claim]:
        """Read the large arguments of what was taken."""
        numbers = {claim.id: seq for seq, claim in page.rows if seq in page.references}
        complete = []
        for claim in taken:
            if claim.id in numbers:
                seq = numbers[claim.id]
                try:
                    claim = claim._replace(payload=load_value(self._database, page.references[seq]))
                except MissingValueError:
                    self._damage.exclude(seq, "its arguments are not complete", now)
                    continue
            complete.append(claim)
        return complete

    # -- staging -------------------------------------------------------------------------------------------------------

    def _stage_if_due(self, next_due_at: Microseconds | None, due_by: Microseconds) -> int | None:
        """Bring what has become due to where claims look, a bounded number at a time; how many that were, None: there
        was no reason to."""
        if not _is_due(next_due_at, due_by):
            return None
        try:
            return self._database.write(sql("promote"), (due_by, STEP))
        except DAMAGE as error:
            if not is_damage(error):
                raise
            return 0

    # -- picking -------------------------------------------------------------------------------------------------------

    def _pick(self, request: ClaimRequest, now: Microseconds, *, is_locked: bool = False) -> _Page:
        """What to take. Batches are chosen, and picked only if nothing changes meanwhile."""
        rows: dict[int, Claim] = {}
        references: dict[int, int] = {}
        is_more_left, aside = False, 0
        next_due_at = None
        choices: list[BatchChoice] = []
        for lane in request.slots:
            if lane.batch is None:
                page = self._pick_lane(lane, request.queues, now)
            else:
                page = self._pick_batches(lane, lane.batch, request, now, is_locked=is_locked)
                choices += page.choices
            rows.update(page.rows)
            references.update(page.references)
            is_more_left = is_more_left or page.is_more_left
            next_due_at, aside = page.next_due_at, page.aside
        picked = list(rows.items())
        if references:
            first = bounded(picked, references)
            is_more_left = is_more_left or len(first) < len(picked)
            picked = first
        return _Page(picked, references, is_more_left, next_due_at, aside, choices)

    def _pick_batches(
        self, lane: TaskSlots, rule: BatchRule, request: ClaimRequest, now: Microseconds, *, is_locked: bool
    ) -> _Page:
        choice, look = self._batches.choose(lane, rule, request.queues, now + request.ahead, now)
        rows, references = self._batches.rows(choice, now) if is_locked else Picked([], {})
        return _Page(rows, references, choice.has_more, look.next_due_at, look.aside, (choice,))

    def _pick_lane(self, lane: TaskSlots, queues: tuple[str, ...] | None, now: Microseconds) -> _Page:
        """The first jobs of a lane: one more than wanted is read, to know whether there is more."""
        statement, parameters = _pick_statement(lane.tasks, queues)
        limit = lane.limit
        while True:
            try:
                text, payloads, next_due_at, aside = self._database.row(statement, [*parameters, limit + 1])
                picked = claims_of(text, payloads)
            except sqlite3.DataError:  # payloads of a gigabyte in all do not fit into one answer
                if limit == 0:
                    raise
                limit //= 2
                continue
            except (*DAMAGE, UnreadableError) as error:
                if not is_damage(error):
                    raise
                picked, next_due_at, aside = self._damage.pick_each(lane.tasks, queues, limit + 1, now)
            rows = picked.rows
            if (self._damage.is_suspected or not rows) and self._damage.is_to_be_looked_for(now):
                picked, next_due_at, aside = self._damage.pick_each(lane.tasks, queues, limit + 1, now)
                rows = picked.rows
            known = frozenset(lane.tasks)
            if not known.issuperset([claim.task for _, claim in rows]):
                rows = self._only_known(rows, known, now)
            return _Page(rows[: lane.limit], picked.references, len(rows) > limit, next_due_at, aside)

    def _only_known(self, rows: _Rows, tasks: frozenset[str], now: Microseconds) -> _Rows:
        """The rows of these tasks. A row of another task shows that the index is damaged."""
        for seq, claim in rows:
            if claim.task not in tasks:
                self._damage.exclude(seq, "it is not what an index says of it", now)
        return [row for row in rows if row[1].task in tasks]

    # -- taking --------------------------------------------------------------------------------------------------------

    def _take(self, request: ClaimRequest, rows: _Rows, now: Microseconds) -> list[Claim]:
        """Claim those of ``rows`` that no other process has claimed; one at a time if one of them is damaged."""
        try:
            return self._take_all(request, rows, now)
        except DAMAGE as error:
            if not is_damage(error):
                raise
        taken: list[Claim] = []
        faults: dict[int, Exception] = {}
        for row in rows:
            try:
                taken += self._take_piece(request, (row,), now)
            except DAMAGE as error:
                if not is_damage(error) or (len(rows) > 1 and len(faults) == len(rows) - 1):
                    raise  # all of them: it is no row that is damaged, but the database
                faults[row[0]] = error
        for seq, fault in faults.items():
            self._damage.exclude(seq, str(fault), now)
        return taken

    def _take_all(self, request: ClaimRequest, rows: _Rows, now: Microseconds) -> list[Claim]:
        pieces = list(chunks(rows))
        if len(pieces) <= 1:
            return [claim for piece in pieces for claim in self._take_piece(request, piece, now)]
        with self._database.atomic():
            return [claim for piece in pieces for claim in self._take_piece(request, piece, now)]

    def _take_piece(self, request: ClaimRequest, rows: Sequence[tuple[int, Claim]], now: Microseconds) -> list[Claim]:
        owner, due_by = request.owner, now + request.ahead
        size, values = row_values([(seq, claim.fence) for seq, claim in rows])
        changed = self._database.write_unflushed(sql("take", rows=size), [owner, now, due_by, now, *values])
        if changed == len(rows):
            return [claim for _, claim in rows]
        if changed == 0:
            return []
        ours = set(decode_rows(self._database.row(sql("taken", rows=size), [*values, owner])[0]))
        return [claim for seq, claim in rows if seq in ours]


def _is_due(due_at: Microseconds | None, now: Microseconds) -> bool:
    return due_at is not None and due_at <= now


def _pick_statement(tasks: tuple[str, ...], queues: tuple[str, ...] | None) -> tuple[str, list[str]]:
    size, in_queues, parameters = lane_conditions(tasks, queues)
    return sql("pick", tasks=size, in_queues=in_queues), parameters


def _with_batches(claimed: Claimed, page: _Page) -> Claimed:
    """Those of the claims that are batches come after the others."""
    numbers = {claim.id: seq for seq, claim in page.rows}
    chosen = {job.number for choice in page.choices for batch in choice.batches for job in batch}
    claims = [claim for claim in claimed.claims if numbers[claim.id] not in chosen]
    batches: list[tuple[str, ...]] = []
    for choice in page.choices:
        taken, some = with_batches(claimed.claims, choice, lambda claim: numbers[claim.id])
        claims += taken
        batches += some
    due = [claimed.next_due_at, *(choice.next_at for choice in page.choices)]
    next_due_at = min((at for at in due if at is not None), default=None)
    return claimed._replace(claims=claims, batches=tuple(batches), next_due_at=next_due_at)
