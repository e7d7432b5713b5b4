"""Counts against the committed ones: what has grown, and the words for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ("ALLOWED", "ANY_PYTHON", "Growth", "Numbers", "baseline_for", "grown", "to_table")

Numbers = Mapping[str, float]
"""Each count, for one job."""

ALLOWED = 0.03
"""The share by which a count may grow."""

_SLACK = 0.01
"""Or this much, if that is more: where hundreds of jobs share a transaction, a few more of them are chance."""

ANY_PYTHON = ("statements", "pages", "commits")
"""The counts that are the same with each release of Python; opcodes are not."""


@dataclass(frozen=True, slots=True)
class Growth:
    """A count that is higher than it may be."""

    scenario: str
    count: str
    before: float
    now: float

    def __str__(self) -> str:
        change = f"{percent(self.before, self.now)}, allowed are +{ALLOWED:.0%}"
        return (
            f"{self.scenario}: {self.count} for each job: {self.before:g} in the baseline, now {self.now:g} ({change})"
        )


def grown(scenario: str, before: Numbers, now: Numbers) -> list[Growth]:
    """What has grown by more than is allowed. Counts that the baseline does not have are not compared."""
    return [
        Growth(scenario, count, before[count], number)
        for count, number in now.items()
        if count in before and number > before[count] + max(before[count] * ALLOWED, _SLACK)
    ]


def baseline_for(python: str, baselines: Mapping[str, Mapping[str, Numbers]]) -> dict[str, Numbers]:
    """The committed counts by scenario; for a Python without any, those of another one that do not depend on it."""
    if python in baselines:
        return dict(baselines[python])
    other = next(iter(baselines.values()), {})
    return {
        name: {count: number for count, number in numbers.items() if count in ANY_PYTHON}
        for name, numbers in other.items()
    }


def to_table(before: Mapping[str, Numbers], now: Mapping[str, Numbers]) -> str:
    """All counts beside the committed ones, as lines of text."""
    lines = [f"{'for each job':<20} {'count':<12} {'baseline':>10} {'now':>10}"]
    for scenario, numbers in now.items():
        for count, number in numbers.items():
            old = before.get(scenario, {}).get(count)
            cells = ("–", "") if old is None else (f"{old:g}", percent(old, number))
            lines.append(f"{scenario:<20} {count:<12} {cells[0]:>10} {number:>10g}  {cells[1]}".rstrip())
    return "\n".join(lines)


def percent(before: float, now: float) -> str:
    """The change as a signed percentage."""
    return f"{now / before - 1:+.1%}" if before else "it was none"
