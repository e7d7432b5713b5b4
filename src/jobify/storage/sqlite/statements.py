"""The statements of ``queries.sql``, by name, and how those are run that write many rows at once.

A batch is one statement with many rows of values, not many statements: see the head of ``queries.sql`` for why, for
what stands for NULL, and for what pads a batch to a round number of rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import msgspec

from jobify.exceptions import StorageCorruptError
from jobify.storage.sql.statements import Row
from jobify.storage.sqlite.session import Session

__all__ = (
    "CHUNK",
    "Rows",
    "SQLiteStatements",
    "Values",
    "chunks",
    "decode_rows",
    "id_values",
    "padded",
    "row_values",
    "rows_for",
    "sql",
    "write_batch",
    "write_for",
    "write_values",
)

T = TypeVar("T")
Values: TypeAlias = list[Any]
Rows: TypeAlias = tuple[int, int]
"""How many rows of placeholders, and how many placeholders in each."""

ValuesOf: TypeAlias = Callable[[Sequence[T]], tuple[Rows, Values]]
"""Makes the rows and parameters of a statement from a batch."""

CHUNK = 512
"""Rows in one statement at most. A power of two; twice as many gain nothing, and cost a megabyte of prepared
statement."""

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def _load() -> dict[str, str]:
    source = Path(__file__).with_name("queries.sql").read_text(encoding="utf-8")
    _, *parts = _NAME.split(source)
    found = {name: _without_comments(text) for name, text in zip(parts[::2], parts[1::2], strict=True)}
    for part in ("needing", "merged_jobs"):
        found = {name: text.replace(f"{{{part}}}", found[part]) for name, text in found.items()}
    return found


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.strip().splitlines() if not line.lstrip().startswith("--"))


_STATEMENTS = _load()


@cache
def sql(name: str, **fields: Rows | int | str) -> str:
    """The text of statement ``name``.

    Its fields are filled in: with placeholders for :data:`Rows`, with so many placeholders for a number, and with a
    text as it is. The same text is the same object, so that the driver finds the compiled statement by identity.
    """
    text = _STATEMENTS[name]
    if not fields:
        return text
    filled = {field: _fill(value) for field, value in fields.items()}
    shared = {
        "record": "record_columns",
        "claim": "claim_columns",
        "passed_over": "passed_over",
        "gate": "gate_columns",
    }
    return text.format(**filled, **{field: _STATEMENTS[name] for field, name in shared.items()})


def _fill(value: Rows | int | str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return ", ".join("?" * value)
    count, width = value
    return ", ".join([f"({', '.join('?' * width)})"] * count)


def chunks(batch: Sequence[T]) -> Iterator[Sequence[T]]:
    """``batch`` in pieces that fit into one statement; one empty batch has no pieces."""
    return (batch[start : start + CHUNK] for start in range(0, len(batch), CHUNK))


def _round_up(count: int) -> int:
    return 1 << (count - 1).bit_length() if count > 1 else 1


def padded(values: Values, count: int, width: int) -> tuple[Rows, Values]:
    """Rows of placeholders, and ``values`` for them, up to a round number."""
    size = _round_up(count)
    values.extend([0] * ((size - count) * width))
    return (size, width), values


def id_values(ids: Sequence[Any]) -> tuple[int, Values]:
    """How many placeholders for a list of ids, and the ids, padded with a repetition. At most a chunk."""
    size = _round_up(len(ids)) if ids else 0
    return size, [*ids, *[ids[0] for _ in range(size - len(ids))]]


def row_values(rows: Sequence[Row]) -> tuple[Rows, Values]:
    """Rows and parameters of a statement that takes ``rows`` as they are: at least one, at most a chunk."""
    return padded(list(chain.from_iterable(rows)), len(rows), len(rows[0]))


# -- batches -----------------------------------------------------------------------------------------------------------


def decode_rows(text: bytes) -> list[Any]:
    """The rows in the JSON of an answer.

    A text that was written by hand and is not UTF-8 is read with replacement characters: one bad row must not
    keep the others from being read.
    """
    try:
        rows: list[Any] = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            rows = msgspec.json.decode(text.decode("utf-8", errors="replace"))
        except msgspec.DecodeError as error:
            raise StorageCorruptError(None, f"an answer cannot be read ({error})") from error
    return rows


def write_for(database: Session, name: str, ids: Sequence[Any], *, before: Sequence[Any] = ()) -> int:
    """Run statement ``name``, whose parameters are ``before`` and then the ids; how many rows it changed."""
    changed = 0
    for some in chunks(ids):
        size, values = id_values(some)
        changed += database.write(sql(name, ids=size), [*before, *values])
    return changed


def rows_for(database: Session, name: str, ids: Sequence[Any]) -> list[Any]:
    """What statement ``name`` answers, on the writing connection."""
    found = []
    for some in chunks(ids):
        size, values = id_values(some)
        found += decode_rows(database.row(sql(name, ids=size), values)[0])
    return found


def write_batch(
    database: Session,
    name: str,
    values_of: ValuesOf[T],
    batch: Sequence[T],
    *,
    is_acknowledged: bool = True,
    **fields: str,
) -> int:
    """Run statement ``name`` for a batch, all of it or none; how many rows it changed. If it is not too long, that is
    one statement."""
    if len(batch) > CHUNK:
        with database.atomic():
            return sum(
                write_batch(database, name, values_of, piece, is_acknowledged=is_acknowledged, **fields)
                for piece in chunks(batch)
            )
    if not batch:
        return 0
    rows, values = values_of(batch)
    return database.write(sql(name, rows=rows, **fields), values, is_acknowledged=is_acknowledged)


def write_values(
    database: Session,
    name: str,
    values: Values,
    width: int,
    *,
    before: Sequence[Any] = (),
    is_acknowledged: bool = True,
    **fields: str,
) -> int:
    """Run statement ``name``, whose parameters are ``before`` and then these, ``width`` of them for each row, all of it
    or none; how many rows it changed. If it is not too long, that is one statement."""
    piece = CHUNK * width
    if len(values) > piece:
        with database.atomic():
            return sum(
                write_values(
                    database, name, values[start : start + piece], width, before=before,
                    is_acknowledged=is_acknowledged, **fields,
                )
                for start in range(0, len(values), piece)
            )  # fmt: skip
    rows, filled = padded(values, len(values) // width, width)
    return database.write(sql(name, rows=rows, **fields), [*before, *filled], is_acknowledged=is_acknowledged)


class SQLiteStatements:
    """See :class:`jobify.storage.sql.statements.Statements`. What a statement answers is one text of JSON."""

    locks_rows = False

    def __init__(self, database: Session) -> None:
        self._database = database

    def atomic(self) -> AbstractContextManager[None]:
        return self._database.atomic()

    def together(self) -> AbstractContextManager[None]:
        return self._database.atomic()

    def run(self, name: str, *parameters: Any) -> int:
        return self._database.write(sql(name), parameters)

    def run_for(self, name: str, ids: Sequence[Any], *before: Any) -> int:
        return write_for(self._database, name, ids, before=before)

    def run_rows(self, name: str, rows: Sequence[Row], *before: Any) -> int:
        changed = 0
        for some in chunks(rows):
            size, values = row_values(some)
            changed += self._database.write(sql(name, rows=size), [*before, *values])
        return changed

    def rows(self, name: str, *parameters: Any) -> list[Any]:
        return decode_rows(self._database.row(sql(name), parameters)[0])

    def rows_for(self, name: str, ids: Sequence[Any], *before: Any) -> list[Any]:
        found = []
        for some in chunks(ids):
            size, values = id_values(some)
            found += decode_rows(self._database.row(sql(name, ids=size), [*before, *values])[0])
        return found

    def rows_of(self, name: str, rows: Sequence[Row], *before: Any) -> list[Any]:
        found = []
        for some in chunks(rows):
            size, values = row_values(some)
            found += decode_rows(self._database.row(sql(name, rows=size), [*before, *values])[0])
        return found

    def read(self, name: str, *parameters: Any) -> list[Any]:
        return decode_rows(self._database.read(sql(name), parameters)[0])

    def read_for(self, name: str, ids: Sequence[Any]) -> list[Any]:
        found = []
        for some in chunks(ids):
            size, values = id_values(some)
            found += decode_rows(self._database.read(sql(name, ids=size), values)[0])
        return found

    def add(self, name: str, *parameters: Any) -> int:
        number = self._database.execute(sql(name), parameters).lastrowid
        assert number is not None
        return number
