"""Statements about jobs that are named by their ids, any number of them: a piece of the list at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobify.storage.sqlite.database import Database
from jobify.storage.sqlite.rows import decode_rows
from jobify.storage.sqlite.statements import chunks, id_values, sql

__all__ = ("rows_for", "write_for")


def write_for(database: Database, name: str, ids: Sequence[Any], *, before: Sequence[Any] = ()) -> int:
    """Run statement ``name``, whose parameters are ``before`` and then the ids; how many rows it changed."""
    changed = 0
    for some in chunks(ids):
        size, values = id_values(some)
        changed += database.write(sql(name, ids=size), [*before, *values])
    return changed


def rows_for(database: Database, name: str, ids: Sequence[Any]) -> list[Any]:
    """What statement ``name`` answers, on the writing connection."""
    found = []
    for some in chunks(ids):
        size, values = id_values(some)
        found += decode_rows(database.row(sql(name, ids=size), values)[0])
    return found
