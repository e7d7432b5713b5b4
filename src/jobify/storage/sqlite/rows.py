"""What statements answer, back into records: one JSON text and one or two blobs for any number of rows."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from jobify.model.limit_gates import LimitState
from jobify.model.records import Claim, JobRecord, MessageKind, MessageRecord
from jobify.storage.parking import parking_of
from jobify.storage.sqlite.statements import decode_rows

__all__ = ("Found", "Picked", "UnreadableError", "claims_of", "decode_rows", "messages_of", "records_of")

_PAYLOAD, _RESULT, _PROGRESS, _PARKED = 8, 19, 30, 32
_BOOLEANS = (5, 24, 25, 28, 31, 33)
"""Where these columns stand in the list of ``record_columns``."""

_PickedRow = tuple[
    str, str, str, int, int, int, int, str | None, int | None, str | None, int | None, int, int, int, int, int,
    int | None, int, int | None, int,
]  # fmt: skip
_decode_picked = msgspec.json.Decoder(list[_PickedRow]).decode
"""Of the right types, or not at all; this takes no longer."""


NO_LIMITS = LimitState.NONE


class UnreadableError(Exception):
    """A row does not hold what it must: it is damaged, or was written by hand."""


class Found(NamedTuple):
    """Records, and the references to those values that are not in their rows: empty in the records."""

    records: list[JobRecord]
    references: list[tuple[int, int | None, int | None]]
    """The place of a record, the reference to its arguments, the one to its result."""


class Picked(NamedTuple):
    """What a claim may take."""

    rows: list[tuple[int, Claim]]
    """The number of each row, and the claim on it."""
    references: dict[int, int]
    """The number of a row → the reference to its arguments, where these are not in the row: empty in the claim."""


def claims_of(text: bytes, payloads: bytes | None) -> Picked:
    """The answer of ``pick``. UnreadableError if one of the rows is not as it must be."""
    try:
        found = _decode_picked(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableError(str(error)) from error
    rows: list[tuple[int, Claim]] = []
    references: dict[int, int] = {}
    start = 0
    blob = payloads or b""
    for row in found:
        end = start + row[6]
        if row[18] is not None:
            references[row[19]] = row[18]
        rows.append((row[19], Claim._make((*row[:6], blob[start:end], *row[7:18], NO_LIMITS))))
        start = end
    if start != len(blob):
        raise UnreadableError("the stored arguments are not a blob")
    return Picked(rows, references)


def records_of(text: bytes, payloads: bytes | None, results: bytes | None) -> Found:
    """The answer of a statement that selects ``{record}``."""
    records: list[JobRecord] = []
    references: list[tuple[int, int | None, int | None]] = []
    start = result_start = 0
    for row in decode_rows(text):
        end = start + row[_PAYLOAD]
        row[_PAYLOAD] = (payloads or b"")[start:end]
        start = end
        if row[_RESULT] is not None:
            result_end = result_start + row[_RESULT]
            row[_RESULT] = (results or b"")[result_start:result_end]
            result_start = result_end
        result_ref = row.pop()
        payload_ref = row.pop()
        if payload_ref is not None or result_ref is not None:
            references.append((len(records), payload_ref, result_ref))
        for index in _BOOLEANS:
            row[index] = bool(row[index])
        if row[_PROGRESS] is not None:
            row[_PROGRESS] = float(row[_PROGRESS])
        if row[_PARKED] is not None:
            row[_PARKED] = parking_of(row[_PARKED])
        records.append(JobRecord._make(row))
    return Found(records, references)


def messages_of(text: bytes, data: bytes | None) -> list[MessageRecord]:
    """The answer of ``messages``."""
    messages = []
    start = 0
    for number, kind, attempt, at, length, level, is_text in decode_rows(text):
        piece = (data or b"")[start : start + length]
        start += length
        what = piece.decode("utf-8", errors="replace") if is_text else piece
        messages.append(MessageRecord(number, MessageKind(kind), attempt, at, what, level))
    return messages
