"""How many bytes a value in memory takes, roughly and quickly."""

from __future__ import annotations

import sys
from collections import deque
from itertools import islice
from typing import Any, Final

__all__ = ("NO_ARGUMENTS", "WEIGHTLESS", "weigh", "weigh_call")

NO_ARGUMENTS: Final[Any] = ((), ())
"""The payload of a job whose arguments are no longer needed. It has no dict, and so the garbage collector skips it."""

WEIGHTLESS: Final = frozenset({type(None), bool, int, float})
"""Types of values that count nothing."""
_SEQUENCES: Final = (list, tuple, set, frozenset, deque)
_SAMPLE: Final = 64
"""Elements of a container that are looked at; the others are taken to be alike."""
_DEPTH: Final = 4
_EMPTY: Final = 64
_WORD: Final = 8


def weigh_call(payload: Any) -> int:
    """:func:`weigh`, of the arguments of a call as a storage in memory keeps them."""
    if type(payload) is tuple and len(payload) == 2:
        args, kwargs = payload
        if not kwargs and type(args) is tuple and WEIGHTLESS.issuperset(map(type, args)):  # those of most calls
            return 2 * _EMPTY + _WORD * len(args)
        return weigh(args) + weigh(kwargs)
    return weigh(payload)


def weigh(value: Any, depth: int = _DEPTH) -> int:
    """Bytes: those of texts, arrays and containers of them; small numbers count nothing."""
    kind = type(value)
    if kind in WEIGHTLESS:
        return 0
    if kind is tuple and WEIGHTLESS.issuperset(map(type, value)):  # nearly every result and most arguments
        return _EMPTY + _WORD * len(value)
    if kind is dict and not value:
        return _EMPTY
    size = sys.getsizeof(value, 0)
    if not depth:
        return size
    if isinstance(value, dict):
        return size + _of_sample(len(value), [part for pair in islice(value.items(), _SAMPLE) for part in pair], depth)
    if isinstance(value, _SEQUENCES):
        return size + _of_sample(len(value), list(islice(value, _SAMPLE)), depth)
    held = getattr(value, "__dict__", None)
    return size + (weigh(held, depth - 1) if type(held) is dict else 0)


def _of_sample(count: int, sample: list[Any], depth: int) -> int:
    weight = sum(weigh(part, depth - 1) for part in sample)
    return weight * count // _SAMPLE if count > _SAMPLE else weight
