"""What is measured, with which settings, and what we promised: the budgets, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

MEMORY = "memory"
NORMAL = '{"synchronous": "normal"}'
DEFAULT = "{}"  # ours: synchronous=FULL. The peer's release knows only NORMAL, so for it this *is* NORMAL.


@dataclass(frozen=True, slots=True)
class Budget:
    """A promise about one number, as words for the table and as the rule that decides."""

    text: str
    is_met: Callable[[float, float], bool]
    """Called with (ours, peer's)."""


def at_least_times(factor: float) -> Budget:
    """Ours, a rate, must be `factor` times the peer's or more."""
    return Budget(f"≥ {factor:g} ×", lambda ours, peer: ours >= factor * peer)


def at_most_times(factor: float) -> Budget:
    """Ours, a duration, must be `factor` times the peer's or less."""
    return Budget(f"≤ {factor:g} ×", lambda ours, peer: ours <= factor * peer)


def at_least(limit: float, unit: str) -> Budget:
    """Ours, a rate, must reach a limit that does not depend on the peer."""
    return Budget(f"≥ {limit:,g} {unit}", lambda ours, _peer: ours >= limit)


def at_most(limit: float, unit: str) -> Budget:
    """Ours must stay below a limit that does not depend on the peer."""
    return Budget(f"≤ {limit:g} {unit}", lambda ours, _peer: ours <= limit)


@dataclass(frozen=True, slots=True)
class Metric:
    """One number that a program prints under `key`."""

    key: str
    title: str
    unit: str


@dataclass(frozen=True, slots=True)
class Rival:
    """A product that does the same work, set to its best or left as it comes, and what we promised against it.

    A metric without a budget is shown for information.
    """

    name: str
    settings: str
    budgets: Mapping[str, Budget] = field(default_factory=dict)
    """By the key of the metric."""
    product: str | None = None
    """Its word on the command line of the program; None where the program is the same file for both sides."""
    needs_redis: bool = False
    """Without a Redis to start, it is not run."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """One program with its arguments (and a small count for a smoke run), our settings, and the rivals.

    Where nothing else does that work, the only rival is :data:`NO_RIVAL`.
    """

    name: str
    program: str
    count: int
    quick_count: int
    ours: str
    metrics: tuple[Metric, ...]
    rivals: tuple[Rival, ...]
    our_product: str = "jobify"
    """Our word on the command line of the program."""
    mode: str | None = None
    """What the program is to do, where it can do several things."""
    scheduled: int = 0
    """How many future jobs the database must hold before the program starts."""
    quick_scheduled: int = 0
    on_postgres: bool = False
    """Both sides work on a database of a PostgreSQL server, which the bench starts."""


NO_RIVAL = ""
"""The name of a rival that only carries budgets."""


def ours_alone(**budgets: Budget) -> tuple[Rival, ...]:
    """No rival, with the budgets by metric."""
    return (Rival(NO_RIVAL, DEFAULT, budgets),)


def the_peer(settings: str = DEFAULT, **budgets: Budget) -> tuple[Rival, ...]:
    """The release of this name, with the budgets by metric."""
    return (Rival("jobify 0.14.0", settings, budgets),)


EXPERIMENTS = (
    Experiment(
        "push-normal",
        "push_concurrent.py",
        count=10_000,
        quick_count=50,
        ours=NORMAL,
        metrics=(
            Metric("per_second", "durable push → run → stored result, 10,000 at once", "/s"),
            Metric("push_per_second", "durable push, 10,000 at once, without their runs", "/s"),
        ),
        rivals=the_peer(per_second=at_least_times(10)),
    ),
    Experiment(
        "push-full",
        "push_concurrent.py",
        count=10_000,
        quick_count=50,
        ours=DEFAULT,
        metrics=(Metric("per_second", "durable push → run → stored result, our FULL to their NORMAL", "/s"),),
        rivals=the_peer(per_second=at_least_times(6)),
    ),
    Experiment(
        "one-at-a-time",
        "push_one_at_a_time.py",
        count=2_000,
        quick_count=20,
        ours=NORMAL,
        metrics=(
            Metric("p50_ms", "durable push → run → result, one at a time, p50", "ms"),
            Metric("p99_ms", "durable push → run → result, one at a time, p99", "ms"),
        ),
        rivals=the_peer(p50_ms=at_most_times(0.6)),
    ),
    Experiment(
        "one-at-a-time-full",
        "push_one_at_a_time.py",
        count=1_000,
        quick_count=20,
        ours=DEFAULT,
        metrics=(Metric("p50_ms", "durable push → run → result, one at a time, our FULL to their NORMAL, p50", "ms"),),
        rivals=the_peer(p50_ms=at_most_times(1.5)),
    ),
    Experiment(
        "push-memory",
        "push_concurrent.py",
        count=10_000,
        quick_count=50,
        ours=MEMORY,
        metrics=(Metric("per_second", "push → run → result in memory only, 10,000 at once", "/s"),),
        rivals=the_peer(MEMORY, per_second=at_least_times(2.5)),
    ),
    Experiment(
        "delay-normal",
        "delay_calls.py",
        count=10_000,
        quick_count=50,
        ours=NORMAL,
        metrics=(
            Metric("concurrent_per_second", "durable `.delay()` calls, 10,000 at once", "/s"),
            Metric("sequential_per_second", "durable `.delay()` calls, one after the other", "/s"),
        ),
        rivals=the_peer(concurrent_per_second=at_least_times(10)),
    ),
    Experiment(
        "delay-full",
        "delay_calls.py",
        count=10_000,
        quick_count=50,
        ours=DEFAULT,
        metrics=(
            Metric("concurrent_per_second", "`.delay()` calls, our FULL to their NORMAL, at once", "/s"),
            Metric("sequential_per_second", "`.delay()` calls, our FULL to their NORMAL, one after the other", "/s"),
        ),
        rivals=the_peer(),
    ),
    Experiment(
        "start",
        "start_with_schedule.py",
        count=2,
        quick_count=0,
        ours=NORMAL,
        scheduled=200_000,
        quick_scheduled=500,
        metrics=(
            Metric("seconds", "start with 200,000 scheduled jobs", "s"),
            Metric("freeze_ms", "start with 200,000 scheduled jobs: longest stop of the event loop", "ms"),
            Metric("memory_mb", "start with 200,000 scheduled jobs: memory", "MB"),
        ),
        rivals=the_peer(seconds=at_most(0.5, "s"), freeze_ms=at_most(20, "ms"), memory_mb=at_most(30, "MB")),
    ),
    Experiment(
        "timers",
        "timer_lateness.py",
        count=5_000,
        quick_count=50,
        ours=NORMAL,
        metrics=(
            Metric("p99_ms", "lateness of timers, 1,000 a second, p99", "ms"),
            Metric("p50_ms", "lateness of timers, 1,000 a second, p50", "ms"),
        ),
        rivals=the_peer(p99_ms=at_most_times(1)),
    ),
    Experiment(
        "commands",
        "command_time.py",
        count=10,
        quick_count=1,
        ours=DEFAULT,
        metrics=(
            Metric("help_ms", "`jobify --help`, p50", "ms"),
            Metric("list_ms", "`jobify jobs list` with a trivial app, p50", "ms"),
        ),
        rivals=ours_alone(help_ms=at_most(100, "ms"), list_ms=at_most(250, "ms")),
    ),
)
