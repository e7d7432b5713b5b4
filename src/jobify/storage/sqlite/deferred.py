"""What waits for the end of a running job: its replacement, or its cancel. Called inside a transaction."""

from __future__ import annotations

from collections.abc import Sequence

from jobify.storage.sqlite.cascades import forget_parents
from jobify.storage.sqlite.database import Database
from jobify.storage.sqlite.ids import write_for
from jobify.storage.sqlite.statements import sql

__all__ = ("drop_cancels", "end_cancelled", "replace_with_successors")


def replace_with_successors(database: Database, ids: Sequence[str]) -> None:
    """Put the pending replacements of these jobs in their places."""
    forget_parents(database, ids)
    write_for(database, "become_successor", ids)
    if ids:
        database.write(sql("delete_orphaned_successors"))
        database.write(sql("delete_orphaned_cancels"))  # the cancel was of the job that was replaced


def end_cancelled(database: Database, ids: Sequence[str]) -> None:
    """End these jobs as the pending cancels say."""
    write_for(database, "become_cancelled", ids)
    if ids:
        database.write(sql("delete_orphaned_cancels"))


def drop_cancels(database: Database, ids: Sequence[str]) -> None:
    """Forget the pending cancels of these jobs: they end before they could be cancelled."""
    write_for(database, "drop_cancel", ids)
    if ids:
        database.write(sql("delete_orphaned_cancels"))
