"""Names of tables in a file that other programs share: ``jobify_jobs`` for ``jobs``.

The statements of this package say ``jobs``. In a database file of its own the tables have these names. In a file with
other tables they have a prefix, and so have indexes and triggers, so that they meet no name of a user's.

The names of a statement are replaced once in a process: a connection to such a file (:class:`PrefixedConnection`) looks
each text up in a dict, which finds the same object again. A connection to a file of our own is a plain one, so jobs
there pay nothing for it.

A name is replaced where SQL has the name of a table, an index or a trigger: after words such as ``FROM``, and before a
dot. That leaves alone a column with such a name (``deaths``), texts and comments. A test compiles every statement
against tables with the prefix, and finds a name that was forgotten.
"""

from __future__ import annotations

import re
import sqlite3
from functools import cache
from pathlib import Path
from typing import Any, Final

__all__ = ("PREFIX", "PrefixedConnection", "object_names", "prefixed")

PREFIX: Final = "jobify_"

_CREATED: Final = re.compile(r"\bCREATE (?:UNIQUE )?(?:TABLE|INDEX|TRIGGER) (\w+)")
_MOST: Final = 2048
"""Texts that are kept; there are some hundred."""
_BEFORE: Final = "FROM|INTO|JOIN|UPDATE|TABLE|ON|BY|INDEX|TRIGGER"


@cache
def object_names() -> frozenset[str]:
    """The tables, indexes and triggers of all migrations."""
    files = Path(__file__).with_name("migrations").glob("*.sql")
    return frozenset(name for file in files for name in _CREATED.findall(file.read_text(encoding="utf-8")))


@cache
def _pattern() -> re.Pattern[str]:
    names = "|".join(sorted(object_names(), key=len, reverse=True))
    return re.compile(
        rf"--[^\n]*|(?P<counter>\bname = ')(?P<counted>{names})(?=')|'[^']*'"
        rf"|\b(?P<word>{_BEFORE})(?P<space>\s+)(?P<after>{names})\b|\b(?P<dotted>{names})(?=\.)"
    )


def prefixed(statement: str) -> str:
    """``statement`` for tables with the prefix.

    >>> prefixed("SELECT deaths FROM suspects JOIN jobs ON jobs.seq = suspects.job")
    'SELECT deaths FROM jobify_suspects JOIN jobify_jobs ON jobify_jobs.seq = jobify_suspects.job'
    """
    return _pattern().sub(_replacement, statement)


def _replacement(found: re.Match[str]) -> str:
    if found["after"]:
        return f"{found['word']}{found['space']}{PREFIX}{found['after']}"
    if found["dotted"]:
        return PREFIX + found["dotted"]
    if found["counter"]:  # in sqlite_sequence
        return found["counter"] + PREFIX + found["counted"]
    return found[0]


class _Translated(dict[str, str]):
    """Statements with the prefix, by those without."""

    def __missing__(self, statement: str) -> str:
        if len(self) >= _MOST:  # claims from a damaged file have texts of their own
            self.clear()
        text = self[statement] = prefixed(statement)
        return text


class PrefixedConnection(sqlite3.Connection):
    """A connection whose statements are meant for the tables with the prefix."""

    _translated = _Translated()

    def execute(self, statement: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """:meth:`sqlite3.Connection.execute`, with the names replaced."""
        return super().execute(self._translated[statement], parameters)
