"""Limits as a storage keeps them: definitions, and a gate for each key of one.

A *gate* is the state of a limit for one key (of a limit without a key, there is one gate). It counts what runs, or says
when the next start is allowed; it never counts what waits. All of it is arithmetic on values: a storage loads gates,
asks them in the order of the claims, and writes back what has changed.

A rate is a generic cell rate algorithm (GCRA): ``tat``, the theoretical arrival time, is when the next start is due if
all come evenly. It moves when a job starts, and nowhere else, so an hour without starts saves nothing up.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import cache
from typing import Final, NamedTuple

import msgspec

from jobify.types import Microseconds

__all__ = (
    "NEVER",
    "RELEASED_LIMITS",
    "JobLimits",
    "LimitDefinition",
    "LimitGate",
    "LimitKind",
    "LimitRecord",
    "LimitRefusal",
    "LimitState",
    "LimitWait",
    "SettledLimits",
    "limits_of_options",
)

_SHARE: Final = 1 << 20
"""What a job of cost 1 and weight 1 moves the virtual time of its key by."""
NEVER: Final[Microseconds] = 1 << 62
"""When a gate opens that only the end of a running job, or another limit, can open."""


class LimitKind(StrEnum):
    """What a limit counts."""

    CONCURRENCY = "concurrency"
    """Jobs that run."""
    RATE = "rate"
    """Starts in a time."""
    FAIR = "fair"
    """Nothing: it says in which order jobs of several keys start."""


class LimitDefinition(NamedTuple):
    """A limit, as it is stored for the tasks that list it."""

    name: str
    kind: str
    """A word of :class:`LimitKind`."""
    maximum: int
    """Jobs at once, or starts per ``per``."""
    per: Microseconds = 0
    burst: int = 0
    key: str | None = None
    """The path, or the name of the function, that gives the key; None: the limit has one gate for all jobs."""
    on_excess: str = "wait"
    weights: str | None = None
    """Of a fair share: the weights of keys that do not have 1, as JSON."""

    def weight_of(self, key: str) -> float:
        """The weight of a key, which is JSON."""
        return _weights(self.weights).get(key, 1.0)

    def first_gate(self) -> LimitGate:
        """Its gate for all jobs, before the first of them."""
        return LimitGate(0, self.name, "", self.kind, self.maximum, self.per, self.burst)


class LimitState(IntEnum):
    """What a claim has to do with limits."""

    NONE = 0
    HELD = 1
    """It holds its limits, and its settlement gives them back."""
    UNKEYED = 2
    """A limit has a key that is not evaluated yet: the claim holds none, and must not run."""


class SettledLimits(NamedTuple):
    """What a settlement says about the limits that its claim holds."""

    is_kept: bool = False
    """The function still runs, in a thread: they are held until ``let_go``."""
    closed_until: Microseconds | None = None
    """The rates that the job holds are closed until then."""
    options: str | None = None
    """The options of the job from now on, with the keys that were missing."""


RELEASED_LIMITS: Final = SettledLimits()
"""The claim holds its limits no more."""


class LimitWait(NamedTuple):
    """What a job waits for."""

    name: str
    key: str
    """JSON; empty for a limit without a key."""
    kind: str
    maximum: int
    active: int
    position: int
    """Its place in the line of its task and queue, from 1. Beyond 10,000 it is not counted."""


class LimitRefusal(NamedTuple):
    """A limit that has no place left for a job."""

    name: str
    key: str
    on_excess: str


class LimitRecord(NamedTuple):
    """A limit as a list shows it, or one key of it."""

    name: str
    key: str
    kind: str
    maximum: int
    """That counts: of the code, or as it was set."""
    per: Microseconds
    burst: int
    is_set: bool
    """Whether ``set_limit`` has set the maximum."""
    active: int
    waiting: int
    path: str | None = None
    """The ``key`` of its definition."""


class JobLimits(msgspec.Struct, frozen=True):
    """The part of a job's options that is about limits."""

    limit_keys: dict[str, str] = {}
    """Keys as JSON, by the text of the limit's ``key``."""
    cost: int = 1


_NO_LIMITS: Final = JobLimits()
_decode = msgspec.json.Decoder(JobLimits).decode


def limits_of_options(options: str | None) -> JobLimits:
    """What a job's options say about limits. Options that cannot be read say nothing."""
    if options is None:
        return _NO_LIMITS
    try:
        return _decode(options)
    except msgspec.DecodeError:
        return _NO_LIMITS


@cache
def _weights(text: str | None) -> dict[str, float]:
    return {} if text is None else msgspec.json.decode(text, type=dict[str, float])


@dataclass(slots=True)
class LimitGate:
    """A limit for one key."""

    id: int
    name: str
    key: str
    kind: str
    maximum: int
    per: Microseconds
    burst: int
    active: int = 0
    tat: Microseconds = 0
    closed_until: Microseconds = 0
    is_waited: bool = False
    """Whether jobs may be waiting for it."""
    turned_at: Microseconds = 0
    """When a job was last let in, or out: of many open gates, those come first that have waited longest."""
    first_at: Microseconds = 0
    """Not stored: when the first job may start that this claim was refused. None that comes after it starts earlier, or
    those of low costs would never let one of a high cost go."""

    @property
    def _interval(self) -> Microseconds:
        """The time of one start. Rounded up, so that a window never holds one more."""
        return -(-self.per // self.maximum)

    @property
    def is_timed(self) -> bool:
        """Whether time alone may open it."""
        return self.kind == LimitKind.RATE and self.maximum > 0

    def opens_at(self, cost: int = 1) -> Microseconds:
        """From when on a job of this cost may start, as things are: 0 for now.

        With ``c`` tokens taken at ``t`` only if ``t >= tat + (c - 1 - burst) * interval``, any half-open window of
        ``per`` holds at most ``maximum + burst``: its first start moves ``tat`` to at least its own time and cost.
        """
        if self.kind == LimitKind.FAIR:
            return 0
        if self.kind == LimitKind.CONCURRENCY:
            return 0 if self.active < self.maximum else NEVER
        if self.maximum <= 0:
            return NEVER
        return max(self.closed_until, self.tat + (self._bounded(cost) - 1 - self.burst) * self._interval, 0)

    def _bounded(self, cost: int) -> int:
        """A cost that was allowed when the limit was higher takes all that there is now."""
        return min(cost, self.maximum + self.burst)

    def room(self, now: Microseconds) -> int:
        """How many jobs of cost 1 may start now."""
        if self.kind == LimitKind.FAIR:
            return NEVER
        if self.kind == LimitKind.CONCURRENCY:
            return max(self.maximum - self.active, 0)
        if self.opens_at() > now:
            return 0
        saved = now + self.burst * self._interval - max(self.tat, now)
        return 1 + max(saved, 0) // self._interval

    def take(self, at: Microseconds, cost: int) -> None:
        """A job starts at this time."""
        self.active += 1
        self.turned_at = at
        if self.kind == LimitKind.RATE:
            self.tat = max(self.tat, at) + self._bounded(cost) * self._interval

    def next_place(self, virtual_time: int, cost: int, weight: float) -> int:
        """Of a key of a fair share: the place in line of its next job. The first one of a key is behind those that have
        started, and before the second jobs of all others (start-time fair queueing)."""
        place = max(virtual_time, self.tat)
        self.tat = place + max(round(cost * _SHARE / weight), 1)
        return place

    def keep_count(self, former: LimitGate, now: Microseconds) -> None:
        """The definition was that of ``former`` until now. What was taken of a rate counts as so many starts, not as so
        much time: else one that is raised would go on as before for a ``per``, and one with a burst that is lowered
        would have its burst again."""
        if self.kind == former.kind == LimitKind.RATE and self.maximum and former.maximum and self.tat > now:
            self.tat = now - (now - self.tat) * self._interval // former._interval

    def release(self, count: int = 1, at: Microseconds = 0) -> None:
        """So many jobs have ended."""
        self.active = max(self.active - count, 0)
        self.turned_at = max(self.turned_at, at)

    def shift(self, change: Microseconds) -> None:
        """The clock was changed by so much: what was taken is as long ago as before."""
        self.tat = max(self.tat + change, 0)
        self.turned_at = max(self.turned_at + change, 0)
        if self.closed_until:
            self.closed_until = max(self.closed_until + change, 0)

    def close(self, until: Microseconds) -> None:
        """No start before this time, of a rate."""
        if self.kind == LimitKind.RATE:
            self.closed_until = max(self.closed_until, until)
