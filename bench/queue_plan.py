"""What is measured of the queue side, and what we promised against other queues without a broker.

FlexiQ flushes no commit (WAL with NORMAL), as it comes or tuned; huey flushes each one (FULL) unless it is told not to.
So each is compared at its own durability.
"""

from __future__ import annotations

from plan import DEFAULT, NORMAL, Experiment, Metric, Rival, at_least_times, at_most

_PROGRAM = "queue_work.py"
_TUNED = '{"scheduler_poll_interval_ms": 1, "scheduler_batch_size": 200}'
_EAGER = '{"worker": ["--delay=0.001"]}'
_FLEXIQ, _FLEXIQ_TUNED, _HUEY = "FlexiQ 2.1.0", "FlexiQ 2.1.0, tuned", "huey"


QUEUE_EXPERIMENTS = (
    Experiment(
        "drain-normal",
        _PROGRAM,
        count=20_000,
        quick_count=50,
        ours=NORMAL,
        mode="drain",
        metrics=(Metric("per_second", "one worker draining no-op jobs, NORMAL", "/s"),),
        rivals=(
            Rival(_HUEY, NORMAL, {"per_second": at_least_times(1.6)}, product="huey"),
            Rival(_FLEXIQ_TUNED, _TUNED, {"per_second": at_least_times(20)}, product="flexiq"),
        ),
    ),
    Experiment(
        "drain-full",
        _PROGRAM,
        count=20_000,
        quick_count=50,
        ours=DEFAULT,
        mode="drain",
        metrics=(Metric("per_second", "the same, FULL (our default)", "/s"),),
        rivals=(Rival(_HUEY, DEFAULT, {"per_second": at_least_times(5)}, product="huey"),),
    ),
    Experiment(
        "drain-default",
        _PROGRAM,
        count=1_000,
        quick_count=20,
        ours=DEFAULT,
        mode="drain",
        metrics=(Metric("per_second", "the same, 1,000 jobs, each as it comes", "/s"),),
        rivals=(Rival(_FLEXIQ, DEFAULT, product="flexiq"),),
    ),
    Experiment(
        "bulk",
        _PROGRAM,
        count=50_000,
        quick_count=500,
        ours=NORMAL,
        mode="bulk",
        metrics=(Metric("per_second", "enqueuing 500 jobs a call, NORMAL", "/s"),),
        rivals=(Rival(_FLEXIQ, DEFAULT, {"per_second": at_least_times(2)}, product="flexiq"),),
    ),
    Experiment(
        "single",
        _PROGRAM,
        count=10_000,
        quick_count=50,
        ours=NORMAL,
        mode="single",
        metrics=(Metric("per_second", "enqueuing one job a call, NORMAL", "/s"),),
        rivals=(
            Rival(_FLEXIQ, DEFAULT, {"per_second": at_least_times(1.5)}, product="flexiq"),
            Rival(_HUEY, NORMAL, product="huey"),
        ),
    ),
    Experiment(
        "single-full",
        _PROGRAM,
        count=5_000,
        quick_count=50,
        ours=DEFAULT,
        mode="single",
        metrics=(Metric("per_second", "the same, FULL", "/s"),),
        rivals=(Rival(_HUEY, DEFAULT, product="huey"),),
    ),
    Experiment(
        "pickup",
        _PROGRAM,
        count=200,
        quick_count=5,
        ours=DEFAULT,
        mode="pickup",
        metrics=(
            Metric("p50_ms", "from the call to the start in an idle worker, p50", "ms"),
            Metric("p99_ms", "… p99", "ms"),
        ),
        rivals=(
            Rival(_FLEXIQ_TUNED, _TUNED, {"p50_ms": at_most(2, "ms"), "p99_ms": at_most(10, "ms")}, product="flexiq"),
            Rival(_FLEXIQ, DEFAULT, product="flexiq"),
            Rival(f"{_HUEY}, looking all the time", _EAGER, product="huey"),
            Rival(_HUEY, DEFAULT, product="huey"),
        ),
    ),
    Experiment(
        "idle",
        _PROGRAM,
        count=20,
        quick_count=1,
        ours=DEFAULT,
        mode="idle",
        metrics=(
            Metric("cpu_percent", "an idle worker: share of a core", "%"),
            Metric("memory_mb", "… memory", "MB"),
        ),
        rivals=(
            Rival(
                _FLEXIQ, DEFAULT, {"cpu_percent": at_most(0.2, "%"), "memory_mb": at_most(45, "MB")}, product="flexiq"
            ),
            Rival(_HUEY, DEFAULT, product="huey"),
        ),
    ),
)
