"""Large arguments and results: in parts beside the rows of jobs.

SQLite stores a row as one record and rewrites all of it when its size changes, so that a job with 60 MB of arguments
costs 60 MB of log at its claim and again at its settlement. A value of more than :data:`LARGE` bytes is therefore empty
in its column, and the row refers to its parts. It is written once, in the transaction that stores the row, and read
once, a part at a time. Triggers delete the parts with whatever referred to them.

Measured with pages of 2 KiB, insert, claim and settlement together, a value of 16 KB costs three fifths as much beside
its row as in it, one of 64 KB two fifths, one of 60 MB a fifth. Below the threshold the gain is small, and many small
rows travel in one statement.
"""

from __future__ import annotations

from typing import Final

from jobify.exceptions import StorageError
from jobify.model.records import Claim
from jobify.storage.sqlite.session import Session
from jobify.storage.sqlite.statements import sql

__all__ = ("LARGE", "PART", "MissingValueError", "bounded", "count_parts", "load_value", "store_value")

LARGE: Final = 16_384
"""Bytes; what is longer is stored beside its row."""

PART: Final = 262_144
"""Bytes of a part. A thread that reads or writes one holds no lock of the interpreter for longer than a moment."""

_BITS: Final = 20
"""Bits of a reference that count the parts; see ``schema.sql``."""
_COUNT: Final = (1 << _BITS) - 1

_LARGE_IN_ALL: Final = 33_554_432
"""Bytes of large arguments that one claim reads at most, if it takes more than one job: what comes after them need not
wait for all of them to be read."""


class MissingValueError(StorageError):
    """A part of a value is not in the database: the job was changed meanwhile, or the file is damaged."""


def store_value(database: Session, value: bytes) -> int:
    """Write a value; the reference to it. Called inside the transaction that writes the row."""
    if len(value) > PART * _COUNT:
        raise ValueError(f"a value of {len(value)} bytes is too large to be stored")
    (number,) = database.row(sql("next_value"))
    first, data = number << _BITS, memoryview(value)
    starts = range(0, len(data), PART)
    for part, start in enumerate(starts):
        database.write(sql("add_part"), (first + part, data[start : start + PART]))
    return int(first + len(starts))


def load_value(database: Session, reference: int) -> bytes:
    """Read a value. MissingValueError if it is not there, or not all of it."""
    first = reference & ~_COUNT
    parts = [database.read(sql("part"), (first + part,))[0] for part in range(count_parts(reference))]
    if None in parts or not parts:
        raise MissingValueError("A part of a stored value is missing.")
    return b"".join(parts)


def count_parts(reference: int) -> int:
    """How many parts a value has, each of at most :data:`PART` bytes."""
    return reference & _COUNT


def bounded(rows: list[tuple[int, Claim]], references: dict[int, int]) -> list[tuple[int, Claim]]:
    """The first rows, so many that their large arguments are not too much to be read at once."""
    size = 0
    for index, (seq, _) in enumerate(rows):
        size += count_parts(references.get(seq, 0)) * PART
        if size > _LARGE_IN_ALL and index and seq in references:
            return rows[:index]
    return rows
