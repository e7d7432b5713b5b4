"""Whose file a database is, and which version of our schema it holds.

A file of our own says so in its head: ``application_id`` is ours, and ``user_version`` is the number of migrations that
were applied. In a file with other tables both belong to the program that made it, so the version stands in a table,
``jobify_schema``, and all our tables have a prefix (:mod:`~jobify.storage.sqlite.table_names`).

There is one guest in a file of our own: the package whose interface this one keeps uses a file of the same name, with
one table of its own, and a program that changes from the one to the other starts all the same. That table is left as it
is.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Final, NamedTuple

from jobify.storage.sqlite.table_names import PREFIX, prefixed

__all__ = ("APPLICATION_ID", "GUEST", "VERSION_TABLE", "FileKind", "Layout", "read_layout")

APPLICATION_ID: Final = 0x4A4F4249
""""JOBI", in the head of the file."""

GUEST: Final = "jobify_schedules"
VERSION_TABLE: Final = f"{PREFIX}schema"

_HEAD: Final = f"""
    SELECT
        (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),
        count(*) FILTER (WHERE tbl_name <> '{GUEST}'), count(*) FILTER (WHERE name = '{VERSION_TABLE}')
    FROM sqlite_master
"""
"""One statement, so that it never sees half of what another process is just migrating."""


class FileKind(Enum):
    """Whose file it is."""

    NEW = auto()
    """Nothing is in it yet."""
    OWN = auto()
    """It holds our tables, under their own names."""
    SHARED = auto()
    """It has tables of other programs; ours have a prefix."""


class Layout(NamedTuple):
    """What a database file holds of ours."""

    kind: FileKind
    version: int
    """How many migrations have been applied; 0: none."""

    @property
    def is_ours(self) -> bool:
        """Whether our tables are in it."""
        return self.kind is FileKind.OWN or (self.kind is FileKind.SHARED and self.version > 0)

    def statement(self, text: str) -> str:
        """A statement with the names that the tables have in this file."""
        return prefixed(text) if self.kind is FileKind.SHARED else text


def read_layout(row: Callable[[str], Any]) -> Layout:
    """The layout of a file; ``row`` is called with a query, for its only row."""
    application, version, objects, has_version_table = row(_HEAD)
    if application == APPLICATION_ID:
        return Layout(FileKind.OWN, int(version))
    if has_version_table:
        (version,) = row(f"SELECT max(version) FROM {VERSION_TABLE}")
        return Layout(FileKind.SHARED, int(version or 0))
    if (application, version, objects) == (0, 0, 0):
        return Layout(FileKind.NEW, 0)
    return Layout(FileKind.SHARED, 0)
