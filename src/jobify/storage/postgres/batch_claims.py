"""Claims of batches: look, choose, take.

A look writes nothing and waits for nothing. If it finds a batch, one claim at a time looks again and takes: an advisory
lock of the task is held until the end of the transaction, so that no two claims share a batch out between them. Jobs
that another transaction has locked otherwise are passed over: what is left of them is looked at again.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

from jobify.model.records import BatchRule, ClaimRequest, TaskSlots
from jobify.storage.batch_decisions import BatchChoice, Candidate, candidate, choose, lookahead
from jobify.storage.postgres.database import Database, lock_key
from jobify.storage.postgres.doubt import Doubt
from jobify.storage.postgres.statements import texts
from jobify.types import Microseconds

__all__ = ("BatchClaims", "BatchLook", "Taken")

_TRIES: Final = 3
_NOTHING: Final = BatchChoice([], None, False)


class BatchLook(NamedTuple):
    """The first ready jobs of a lane, one more than are to be considered, and what else an answer needs."""

    jobs: list[tuple[tuple[int, int, int], Candidate]]
    """With their places in the order of claims."""
    fences: dict[int, int]
    next_due_at: Microseconds | None
    aside: int
    """See ``passed_over``."""


class Taken(NamedTuple):
    """What was taken of a lane."""

    choice: BatchChoice
    rows: Sequence[Sequence[Any]]
    """Columns of claims, with the numbers of their rows."""
    next_due_at: Microseconds | None
    aside: int


class BatchClaims:
    """Takes batches."""

    def __init__(self, database: Database, doubt: Doubt) -> None:
        self._database = database
        self._doubt = doubt

    def take(
        self, request: ClaimRequest, lane: TaskSlots, rule: BatchRule, now: Microseconds, *, is_forced: bool
    ) -> Taken:
        """Take the first batches of a lane; none if there is something to promote, unless it is forced."""
        due_by = now + request.ahead
        look = self.look(lane, rule, request.queues)
        choice = choose(rule, [job for _, job in look.jobs], lane.limit, due_by)
        if not is_forced and look.next_due_at is not None and look.next_due_at <= due_by:
            return Taken(_NOTHING._replace(has_more=True), (), look.next_due_at, look.aside)
        if not choice.batches:
            return Taken(choice, (), look.next_due_at, look.aside)
        number, lock = random.getrandbits(63), self.lock if self._database.is_in_block else self._lock_unflushed
        with self._doubt.of(request.owner, number), self._database.together():
            lock([lane])
            return self._take_whole(request, lane, rule, now, number)

    def lock(self, lanes: Sequence[TaskSlots]) -> None:
        """Let no other claim take batches of these tasks, until the end of the transaction. All locks are taken in the
        same order."""
        for key in sorted(lock_key(self._database.schema, f"batches/{min(lane.tasks)}") for lane in lanes):
            self._database.command(f"SELECT pg_advisory_xact_lock({key})")

    def _lock_unflushed(self, lanes: Sequence[TaskSlots]) -> None:
        self.lock(lanes)
        self._database.command("SET LOCAL synchronous_commit TO off")  # as any claim; see ``claims``

    def _take_whole(
        self, request: ClaimRequest, lane: TaskSlots, rule: BatchRule, now: Microseconds, number: int
    ) -> Taken:
        passed: set[int] = set()
        look = self.look(lane, rule, request.queues)
        for _ in range(_TRIES):
            jobs = [job for _, job in look.jobs if job.number not in passed]
            choice = choose(rule, jobs, lane.limit, now + request.ahead)
            chosen = [job.number for batch in choice.batches for job in batch]
            if not chosen:
                return Taken(choice, (), look.next_due_at, look.aside)
            fences = [look.fences[seq] for seq in chosen]
            place = (chosen, fences, request.owner, now, now + request.ahead, number)
            rows = self._database.claim(self._database.sql("take_batch"), place)
            if rows[0][0] is not None:
                return Taken(choice, rows, look.next_due_at, look.aside)
            passed |= set(chosen).difference(rows[0][-1] or ())
            look = self.look(lane, rule, request.queues)
        return Taken(_NOTHING._replace(has_more=True), (), look.next_due_at, look.aside)

    def look(self, lane: TaskSlots, rule: BatchRule, queues: Collection[str] | None) -> BatchLook:
        """The first jobs of a lane."""
        in_queues = "" if queues is None else "AND queue = ANY ($4::text[])"
        fields = {"lane": texts()["whole_lane"].replace("{in_queues}", in_queues)}
        most = lookahead(rule, lane.limit) + 1
        parameters = [lane.tasks, most, rule.key is not None, *(() if queues is None else (queues,))]
        rows = self._database.read("batch_candidates", *parameters, **fields)
        jobs = [_job_of(row, rule) for row in rows if row[0] is not None]
        fences = {row[0]: row[5] for row in rows}
        return BatchLook(jobs, fences, rows[0][-2], rows[0][-1])


def _job_of(row: Sequence[Any], rule: BatchRule) -> tuple[tuple[int, int, int], Candidate]:
    seq, rank, due_at, created_at, options, *_ = row
    return (rank, due_at, seq), candidate(rule, seq, due_at, created_at, options)
