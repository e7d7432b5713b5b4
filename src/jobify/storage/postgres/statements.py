"""The statements of ``queries/``, by name.

A file holds the statements of one part. ``-- name: x`` begins one; other comments are left out of what is sent.
Parameters are ``$1``, ``$2``, each as often as it is wanted. ``@jobs`` is the table of that name in the schema of this
storage, under its own name. ``{x}`` is filled in: with a text that is given, or with the statement of that name.

Integers are sent as bigint and texts as text, so a parameter for a column of another type is cast. An array says the
type of its elements, as in ``$2::text[]``: that is how it is packed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from jobify.storage.postgres.arrays import PACKERS, Array

__all__ = ("Catalog", "Statement", "texts")

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_TABLE = re.compile(r"@(\w+)")
_FIELD = re.compile(r"\{(\w+)\}")
_ARRAY = re.compile(r"\$(\d+)::(\w+)\[\]")

FRAGMENTS: Final = {"claim": "claim_columns", "gate": "gate_columns", "record": "record_columns"}
"""Statements with another name than the field that they fill in."""


class Statement(NamedTuple):
    """A statement as it is sent."""

    text: str
    query: bytes
    """The text, encoded once."""
    packers: dict[int, Callable[[Sequence[Any]], Array]]
    """How to pack the parameters that are arrays, by their positions from 0."""


@cache
def texts() -> dict[str, str]:
    """All statements as they are written, by name."""
    found: dict[str, str] = {}
    for file in sorted(Path(__file__).with_name("queries").glob("*.sql")):
        _, *parts = _NAME.split(file.read_text(encoding="utf-8"))
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            assert name not in found, f"two statements are called {name}"
            found[name] = _without_comments(text)
    return found


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.strip().splitlines() if not line.lstrip().startswith("--"))


class Catalog:
    """The statements for one schema."""

    def __init__(self, schema: str) -> None:
        self.quoted = '"{}"'.format(schema.replace('"', '""'))
        self._statements: dict[tuple[str, ...], Statement] = {}

    def __call__(self, name: str, **fields: str) -> Statement:
        key = (name, *fields.values())
        statement = self._statements.get(key)
        if statement is None:
            statement = self._statements[key] = self._fill(name, fields)
        return statement

    def _fill(self, name: str, fields: dict[str, str]) -> Statement:
        text = texts()[name]
        for _ in range(2):  # a fragment may hold another one
            text = _FIELD.sub(lambda match: _filled(match[1], fields), text)
        text = self.qualified(text)
        packers = {int(number) - 1: PACKERS[kind] for number, kind in _ARRAY.findall(text)}
        return Statement(text, text.encode(), packers)

    def qualified(self, text: str) -> str:
        """``text`` with its tables in the schema."""
        return _TABLE.sub(rf"{self.quoted}.\1", text)


def _filled(field: str, fields: dict[str, str]) -> str:
    return fields[field] if field in fields else texts()[FRAGMENTS.get(field, field)]
