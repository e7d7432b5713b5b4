"""Tracebacks of a job's attempts, each one once: a job that has failed twenty times has mostly failed in one way."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from jobify.model.records import AttemptRecord

__all__ = ("Folded", "folded")

_MAX_RANGES: Final = 4
"""Ranges of attempts that are listed one by one."""
_NUMBERS: Final = re.compile(r"0x[0-9a-fA-F]+|\d+")


class Folded(NamedTuple):
    """A traceback, and the attempts that ended with it."""

    text: str
    """That of the newest of them."""
    attempts: tuple[int, ...]

    @property
    def title(self) -> str:
        if len(self.attempts) == 1:
            return f"Traceback of attempt {self.attempts[0]}"
        count = len(self.attempts)
        if len(list(_runs(self.attempts))) > _MAX_RANGES:  # of a schedule, whose runs begin with 1 each
            return f"Traceback of {count} attempts"
        return f"Traceback of attempts {_ranges(self.attempts)} ({count} times)"


def folded(attempts: Iterable[AttemptRecord]) -> list[Folded]:
    """The tracebacks, in the order in which they came last. Two are the same if they differ in numbers of their message
    only (an address, a duration); of frames the numbers count."""
    found: dict[str, Folded] = {}
    for attempt in attempts:
        if attempt.traceback:
            key = _without_numbers(attempt.traceback)
            before = found.pop(key, None)
            numbers = () if before is None else before.attempts
            found[key] = Folded(attempt.traceback.rstrip(), (*numbers, attempt.attempt))
    return list(found.values())


def _without_numbers(traceback: str) -> str:
    lines = traceback.rstrip().splitlines()
    return "\n".join(line if line.startswith("  ") else _NUMBERS.sub("#", line) for line in lines)


def _ranges(numbers: Sequence[int]) -> str:
    """
    >>> _ranges([1, 2, 3, 5, 1])
    '1-3, 5, 1'
    """
    return ", ".join(f"{first}-{last}" if first < last else f"{first}" for first, last in _runs(numbers))


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    first = last = numbers[0]
    for number in numbers[1:]:
        if number == last + 1:
            last = number
        else:
            yield first, last
            first = last = number
    yield first, last
