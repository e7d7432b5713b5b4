"""Pauses of schedules and of queues."""

from __future__ import annotations

from collections.abc import Sequence

from jobify.storage.sqlite.database import Database
from jobify.storage.sqlite.ids import rows_for, write_for
from jobify.storage.sqlite.statements import sql
from jobify.types import Microseconds

__all__ = ("Pauses",)


class Pauses:
    """A pause of a schedule is one more thing that blocks its row; a paused queue is passed over by claims."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def pause(self, ids: Sequence[str]) -> list[bool]:
        return self._change(ids, "pausable", "pause", [])

    def resume(self, ids: Sequence[str], *, now: Microseconds) -> list[bool]:
        return self._change(ids, "paused", "resume", [now])

    def _change(self, ids: Sequence[str], which: str, statement: str, how: list[int]) -> list[bool]:
        """Change those of the jobs for which ``which`` asks; for each job, whether it is one of them."""
        with self._database.atomic():
            found = set(rows_for(self._database, which, list(dict.fromkeys(ids))))
            write_for(self._database, statement, list(found), before=how)
        return [id in found for id in ids]

    def pause_queue(self, queue: str) -> None:
        self._database.write(sql("pause_queue"), (queue,))

    def resume_queue(self, queue: str) -> None:
        self._database.write(sql("resume_queue"), (queue,))
