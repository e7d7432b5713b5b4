"""Which code a parked call did not fit: the same decisions in all storages."""

from __future__ import annotations

from typing import Final

import msgspec

from jobify.model.records import Parking

__all__ = ("merged", "parking_of", "text_of")

_MOST_CODES: Final = 100
"""Fingerprints that are kept, the newest. So many releases, or so many workers that share no code, never try a call in
turns; and a row stays small."""
_UNKNOWN: Final = Parking("no reason was recorded", 0, ())


class _Column(msgspec.Struct):
    reason: str
    at: int
    codes: tuple[str, ...]


_decode: Final = msgspec.json.Decoder(_Column).decode


def merged(parking: Parking, before: tuple[str, ...]) -> Parking:
    """``parking``, of a call that did not fit the codes of ``before``, either."""
    codes = dict.fromkeys((*(code for code in before if code not in parking.codes), *parking.codes))
    return parking._replace(codes=tuple(codes)[-_MOST_CODES:])


def text_of(parking: Parking) -> str:
    """For a column.

    >>> text_of(Parking("no", 1, ("a",)))
    '{"reason":"no","at":1,"codes":["a"]}'
    """
    return msgspec.json.encode(parking._asdict()).decode()


def parking_of(text: str) -> Parking:
    """From a column. What was written by hand and cannot be read has no reason and no codes.

    >>> parking_of('{"reason":"no","at":1,"codes":["a"]}').codes
    ('a',)
    >>> parking_of("nonsense").reason
    'no reason was recorded'
    """
    try:
        column = _decode(text)
        return Parking(column.reason, column.at, column.codes)
    except (msgspec.DecodeError, UnicodeError):
        return _UNKNOWN
