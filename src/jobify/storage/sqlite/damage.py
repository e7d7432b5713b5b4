"""Rows that can be seen and not claimed: a disk or a hand has changed them.

An index may name a row that is not there, or that says something else; a text may be no text any more, a number no
number, the arguments may be gone. Whatever SQLite or this package trips over, one such row must not keep the others
from being run, nor make a claim be tried again without end. So a claim that gets nowhere is made again row by row, and
what is at fault is set aside: the row ends FAILED with the reason, if the file lets it be written, and this process
passes it by. The log says so once for each row, and ``jobify db check`` says what else is wrong.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from jobify.exceptions import StorageError, StorageUnavailableError
from jobify.model.clock import SECOND
from jobify.runtime.logs import get_logger
from jobify.storage.sql.dependencies import propagate_end
from jobify.storage.sqlite.database import Database
from jobify.storage.sqlite.rows import Picked, UnreadableError, claims_of
from jobify.storage.sqlite.statements import SQLiteStatements, decode_rows, id_values, sql
from jobify.types import Microseconds

__all__ = ("DAMAGE", "Damage", "damaged_rows", "is_damage")

log = get_logger("jobify.storage")

DAMAGE = (StorageError, sqlite3.DatabaseError)
"""What statements raise for a row that is damaged; among other things, see :func:`is_damage`."""

_MOST = 100
"""Rows that a process passes by. Where there are more, the database is damaged as a whole."""

_INTERVAL = 60 * SECOND
"""From one look for damage to the next, while nothing speaks for it."""

_WORDS = ("id", "task", "queue", "status")


def is_damage(error: Exception) -> bool:
    """Whether ``error`` may be about what a row holds, and not about the whole database."""
    return not isinstance(error, StorageUnavailableError)


class Damage:
    """What was set aside."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.rows: set[int] = set()
        """The numbers of the rows that cannot even be marked: claims pass them by."""
        self.is_suspected = False
        """Claims do not find all that is ready, or find what is set aside: each row is looked at."""
        self.is_found = False
        """Something was set aside."""
        self._reported: set[int] = set()
        self._looked_at: Microseconds | None = None

    def exclude(self, seq: int, why: str, now: Microseconds) -> None:
        """Keep a row from being claimed again."""
        id = self._id(seq)
        self.is_found = True
        if not self._mark_failed(seq, id, why, now):
            if len(self.rows) == _MOST:
                raise StorageError(f"The database {self._database.path!r} is damaged: {why}. Restore a backup.")
            self.rows.add(seq)
            self.is_suspected = True
        if seq not in self._reported:
            self._reported.add(seq)
            log.error(
                "Job %r (row %d of %r) cannot be claimed: %s. It is set aside, and the others go on. "
                "Run `jobify db check`.",
                id or "?",
                seq,
                self._database.path,
                why.rstrip("."),
            )

    def is_to_be_looked_for(self, now: Microseconds) -> bool:
        """Whether to read the whole index, row by row: always when something is wrong; else, where a claim has found
        nothing, now and then, because a damaged row may hide those behind it."""
        if self.is_suspected:
            return True
        if self._looked_at is not None and abs(now - self._looked_at) < _INTERVAL:
            return False
        is_first, self._looked_at = self._looked_at is None, now
        return not is_first

    def pick_each(
        self, tasks: Sequence[str], queues: Sequence[str] | None, limit: int, now: Microseconds
    ) -> tuple[Picked, Microseconds | None, int]:
        """What ``pick`` should have answered, without the rows that it cannot read. Sorts all that is ready."""
        in_queues = "" if queues is None else f"AND queue IN ({', '.join('?' * len(queues))})"
        aside = ", ".join(map(str, self.rows))
        numbers = self._database.row(
            f"""
            SELECT CAST(json_group_array(seq) AS BLOB) FROM (
                SELECT seq FROM jobs INDEXED BY jobs_ready WHERE status = 'scheduled' AND ready = 1 AND blockers = 0
                    AND task IN ({", ".join("?" * len(tasks))}) {in_queues} AND seq NOT IN ({aside})
                    AND queue NOT IN (SELECT name FROM paused_queues)
                ORDER BY priority DESC, due_at, seq LIMIT ?
            )
            """,
            [*tasks, *(queues or ()), limit],
        )[0]
        found = self._read_each(decode_rows(numbers), now)
        self.is_suspected = bool(found.rows or self.rows)
        (aside,) = self._database.row(sql("passed_over"))
        return found, self._first_due(), aside

    def _read_each(self, numbers: Sequence[int], now: Microseconds) -> Picked:
        found = Picked([], {})
        for seq in numbers:
            try:
                rows, references = claims_of(*self._database.row(sql("picked", ids=1), (seq,)))
                if not rows:
                    raise UnreadableError("an index names a row that is not there")
            except (*DAMAGE, UnreadableError) as error:
                if not is_damage(error):
                    raise
                self.exclude(seq, str(error), now)
            else:
                found.rows.extend(rows)
                found.references.update(references)
        return found

    def stage_each(self, due_by: Microseconds, limit: int, now: Microseconds) -> None:
        """Stage what is due, one row at a time. What is left afterwards cannot be staged."""
        with self._database.atomic():
            for is_last in (False, True):
                for seq in decode_rows(self._database.row(sql("staged"), (due_by, limit + len(self.rows)))[0]):
                    why = "" if seq in self.rows else self._stage(seq)
                    if why or (is_last and seq not in self.rows):
                        self.exclude(seq, why or "it is not what an index says of it", now)

    def _stage(self, seq: int) -> str:
        """What has kept a row from being staged, if anything has."""
        try:
            self._database.write(sql("promote_one"), (seq,))
        except DAMAGE as error:
            if not is_damage(error):
                raise
            return str(error)
        return ""

    def _first_due(self) -> Microseconds | None:
        """When the next row becomes due that is not set aside."""
        size, values = id_values(sorted(self.rows))
        due_at: Microseconds | None = self._database.row(sql("next_due", ids=size), values)[0]
        return due_at

    def _id(self, seq: int) -> str:
        with suppress(*DAMAGE):
            (id,) = self._database.row(sql("id_of_row"), (seq,))
            return "" if id is None else id.decode("utf-8", errors="replace")
        return ""

    def _mark_failed(self, seq: int, id: str, why: str, now: Microseconds) -> bool:
        """Whether the row says now that it has failed, and why."""
        try:
            with self._database.atomic():
                is_parked = (
                    self._database.write(sql("fail_damaged"), (f"The row is damaged: {why.rstrip('.')}.", now, seq))
                    == 1
                )
                propagate_end(SQLiteStatements(self._database), [id])
        except DAMAGE as error:
            if not is_damage(error):
                raise
            return False
        return is_parked


def damaged_rows(execute: Callable[[str], sqlite3.Cursor]) -> Iterator[str]:
    """What ``PRAGMA integrity_check`` does not look at: texts that are none, and large values that are incomplete."""
    columns = ", ".join(f"CAST({word} AS BLOB)" for word in _WORDS)
    for seq, *words in execute(f"SELECT seq, {columns} FROM jobs"):
        for name, word in zip(_WORDS, words, strict=True):
            if not _is_text(word):
                yield f"table jobs, row {seq}: {name} is not text"
    for name in ("payload_ref", "result_ref"):
        question = f"""
            SELECT seq FROM jobs WHERE {name} IS NOT NULL AND {name} & 1048575 <> (
                SELECT count(*) FROM value_parts WHERE value_parts.seq BETWEEN {name} & ~1048575 AND {name} | 1048575
            )
        """
        for (seq,) in execute(question):
            yield f"table jobs, row {seq}: parts of {name.removesuffix('_ref')} are missing"


def _is_text(word: object) -> bool:
    try:
        return isinstance(word, bytes) and bool(word.decode())
    except UnicodeDecodeError:
        return False
