"""Batches in claims: which jobs of a lane make some, and the rows of these.

A look reads what decides alone. What is chosen is read again under the write lock, so that a batch is taken as it was
chosen; with nothing to take, nothing is locked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from jobify.model.records import BatchRule, TaskSlots
from jobify.storage.batch_decisions import BatchChoice, Candidate, candidate, choose, lookahead
from jobify.storage.sqlite.damage import DAMAGE, Damage, is_damage
from jobify.storage.sqlite.database import Database
from jobify.storage.sqlite.rows import Picked, UnreadableError, claims_of
from jobify.storage.sqlite.statements import CHUNK, id_values, sql
from jobify.types import Microseconds

__all__ = ("BatchLanes", "Look", "lane_conditions")

_Row = tuple[int, int, int, int, str | None]
_decode = msgspec.json.Decoder(list[_Row]).decode


class Look(NamedTuple):
    """The first ready jobs of a lane, one more than are to be considered, and what else an answer needs."""

    jobs: list[tuple[tuple[int, int, int], Candidate]]
    """With their places in the order of claims."""
    next_due_at: Microseconds | None
    aside: int
    """See ``passed_over``."""


class BatchLanes:
    """Lanes of requests that take batches."""

    def __init__(self, database: Database, damage: Damage) -> None:
        self._database = database
        self._damage = damage

    @property
    def are_locked(self) -> bool:
        """Whether a transaction is open, so that no other process changes what is chosen."""
        writer = self._database.connections.writer
        return writer is not None and writer.in_transaction

    def choose(
        self, lane: TaskSlots, rule: BatchRule, queues: tuple[str, ...] | None, due_by: Microseconds, now: Microseconds
    ) -> tuple[BatchChoice, Look]:
        """What a claim takes of a lane."""
        look = self.look(lane, rule, queues, now)
        return choose(rule, [job for _, job in look.jobs], lane.limit, due_by), look

    def look(self, lane: TaskSlots, rule: BatchRule, queues: tuple[str, ...] | None, now: Microseconds) -> Look:
        """The first jobs of a lane."""
        most = lookahead(rule, lane.limit) + 1
        size, fields, parameters = lane_conditions(lane.tasks, queues)
        statement = sql("batch_candidates", tasks=size, in_queues=fields)
        try:
            text, next_due_at, aside = self._database.row(statement, [*parameters, most, rule.key is not None])
            rows = _decode(text)
        except (*DAMAGE, msgspec.DecodeError, UnicodeDecodeError) as error:
            if not is_damage(error):
                raise
            return self._look_at_each(lane, rule, queues, now)
        if (self._damage.is_suspected or not rows) and self._damage.is_to_be_looked_for(now):
            return self._look_at_each(lane, rule, queues, now)
        jobs = [
            ((rank, due_at, seq), candidate(rule, seq, due_at, created_at, options))
            for seq, rank, due_at, created_at, options in rows
        ]
        return Look(jobs, next_due_at, aside)

    def _look_at_each(
        self, lane: TaskSlots, rule: BatchRule, queues: tuple[str, ...] | None, now: Microseconds
    ) -> Look:
        """The same without rows that cannot be read."""
        most = lookahead(rule, lane.limit) + 1
        picked, next_due_at, aside = self._damage.pick_each(lane.tasks, queues, most, now)
        jobs = [
            (
                (-claim.priority, claim.due_at, seq),
                candidate(rule, seq, claim.due_at, claim.created_at, claim.options),
            )
            for seq, claim in picked.rows
        ]
        return Look(jobs, next_due_at, aside)

    def rows(self, choice: BatchChoice, now: Microseconds) -> Picked:
        """The rows of what was chosen, in its order. One that cannot be read is set aside."""
        found = Picked([], {})
        numbers = [job.number for batch in choice.batches for job in batch]
        for start in range(0, len(numbers), CHUNK):
            self._read(numbers[start : start + CHUNK], found, now)
        return found

    def _read(self, numbers: Sequence[int], found: Picked, now: Microseconds) -> None:
        size, values = id_values(numbers)
        try:
            rows, references = claims_of(*self._database.row(sql("picked", ids=size), values))
        except (*DAMAGE, UnreadableError) as error:
            if not is_damage(error):
                raise
            if len(numbers) == 1:
                self._damage.exclude(numbers[0], str(error), now)
                return
            middle = len(numbers) // 2  # also where payloads of a gigabyte in all do not fit into one answer
            self._read(numbers[:middle], found, now)
            self._read(numbers[middle:], found, now)
            return
        by_number = dict(rows)
        found.rows.extend((seq, by_number[seq]) for seq in numbers if seq in by_number)
        found.references.update(references)


def lane_conditions(tasks: tuple[str, ...], queues: tuple[str, ...] | None) -> tuple[int, str, list[str]]:
    """What a statement with ``merged_jobs`` is filled in with: how many tasks, a condition on the queues; and the
    parameters of both."""
    size, parameters = id_values(tasks)
    if queues is None:
        return size, "", parameters
    queue_size, queue_values = id_values(queues)
    return size, f"AND pairs.queue IN ({', '.join('?' * queue_size)})", [*parameters, *queue_values]
