"""What statements answer, back into records: one JSON text and one or two blobs for any number of rows."""

from __future__ import annotations

from typing import Any

import msgspec

from jobify.records import Claim, JobRecord, MessageKind, MessageRecord

__all__ = ("claims_of", "listed", "messages_of", "records_of")

_CLAIM_PAYLOAD = 6
_PAYLOAD, _RESULT, _PROGRESS = 8, 19, 30
_BOOLEANS = (5, 24, 25, 28)
"""Where these columns stand in the lists of ``pick`` and ``record_columns``."""


def listed(text: bytes) -> list[Any]:
    """The rows in the JSON of an answer.

    A text that somebody wrote by hand and that is not UTF-8 is read with replacement characters: one bad row must not
    keep the others from being read.
    """
    try:
        rows: list[Any] = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        rows = msgspec.json.decode(text.decode("utf-8", errors="replace"))
    return rows


def claims_of(text: bytes, payloads: bytes | None) -> list[tuple[int, Claim]]:
    """The answer of ``pick``: the number of each row, and the claim on it."""
    picked = []
    start = 0
    blob = payloads or b""
    for row in listed(text):
        end = start + row[_CLAIM_PAYLOAD]
        row[_CLAIM_PAYLOAD] = blob[start:end]
        start = end
        seq = row.pop()
        picked.append((seq, Claim._make(row)))
    return picked


def records_of(text: bytes, payloads: bytes | None, results: bytes | None) -> list[JobRecord]:
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
        for index in _BOOLEANS:
            row[index] = bool(row[index])
        if row[_PROGRESS] is not None:
            row[_PROGRESS] = float(row[_PROGRESS])
        records.append(JobRecord._make(row))
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
