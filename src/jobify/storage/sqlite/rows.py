"""What statements answer, back into records: one JSON text and one or two blobs for any number of rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from jobify.exceptions import StorageCorruptError
from jobify.records import Claim, JobRecord, MessageKind, MessageRecord

__all__ = ("Picked", "Stored", "claims_of", "listed", "messages_of", "records_of")


class Picked(NamedTuple):
    """A row that a claim may take: its number, the reference to its arguments if they are not in it, the claim."""

    seq: int
    payload_ref: int | None
    claim: Claim


_CLAIM_PAYLOAD = 6
_PAYLOAD, _RESULT, _PROGRESS = 8, 19, 30
_BOOLEANS = (5, 24, 25, 28, 31)
"""Where these columns stand in the lists of ``pick`` and ``record_columns``."""


def listed(text: bytes) -> list[Any]:
    """The rows in the JSON of an answer.

    A text that somebody wrote by hand and that is not UTF-8 is read with replacement characters: one bad row must not
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


class Stored(NamedTuple):
    """A row, and the references to those of its values that are not in it; these are empty."""

    record: JobRecord
    payload_ref: int | None
    result_ref: int | None


def claims_of(text: bytes, payloads: bytes | None) -> list[Picked]:
    """The answer of ``pick``. Arguments that are not in the row are empty."""
    picked = []
    start = 0
    blob = payloads or b""
    for row in listed(text):
        end = start + row[_CLAIM_PAYLOAD]
        row[_CLAIM_PAYLOAD] = blob[start:end]
        start = end
        seq, payload_ref = row.pop(), row.pop()
        picked.append(Picked(seq, payload_ref, Claim._make(row)))
    return picked


def records_of(text: bytes, payloads: bytes | None, results: bytes | None) -> list[Stored]:
    """The answer of a statement that selects ``{record}``."""
    records = []
    start = result_start = 0
    for row in listed(text):
        end = start + row[_PAYLOAD]
        row[_PAYLOAD] = (payloads or b"")[start:end]
        start = end
        if row[_RESULT] is not None:
            result_end = result_start + row[_RESULT]
            row[_RESULT] = (results or b"")[result_start:result_end]
            result_start = result_end
        result_ref, payload_ref = row.pop(), row.pop()
        for index in _BOOLEANS:
            row[index] = bool(row[index])
        if row[_PROGRESS] is not None:
            row[_PROGRESS] = float(row[_PROGRESS])
        records.append(Stored(JobRecord._make(row), payload_ref, result_ref))
    return records


def messages_of(text: bytes, data: bytes | None) -> list[MessageRecord]:
    """The answer of ``messages``."""
    messages = []
    start = 0
    for number, kind, attempt, at, length, level, is_text in listed(text):
        piece = (data or b"")[start : start + length]
        start += length
        what = piece.decode("utf-8", errors="replace") if is_text else piece
        messages.append(MessageRecord(number, MessageKind(kind), attempt, at, what, level))
    return messages
