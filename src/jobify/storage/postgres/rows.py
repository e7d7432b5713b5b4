"""Rows of answers, as records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from jobify.model.records import JobRecord, MessageKind, MessageRecord
from jobify.storage.parking import parking_of

__all__ = ("messages_of", "records_of")

_PARKING: Final = JobRecord._fields.index("parking")


def records_of(rows: Sequence[Sequence[Any]]) -> list[JobRecord]:
    """The answer of a statement that selects ``{record}``."""
    records = []
    for row in rows:
        record = JobRecord._make(row)
        if record.parking is not None:
            record = record._replace(parking=parking_of(row[_PARKING]))
        records.append(record)
    return records


def messages_of(rows: Sequence[Sequence[Any]]) -> list[MessageRecord]:
    """The answer of ``messages``."""
    return [
        MessageRecord(
            number,
            MessageKind(kind),
            attempt,
            at,
            data.decode("utf-8", errors="replace") if is_text else data,
            level,
        )
        for number, kind, attempt, at, data, level, is_text in rows
    ]
