"""What is measured of the queue side, and what we promised against other queues without a broker.

FlexiQ flushes no commit (WAL with NORMAL), as it comes or tuned; huey flushes each one (FULL) unless it is told not to.
So each is compared at its own durability. Both run plain functions in threads; ours are measured as `async def` (on the
event loop), as `def` (in threads) and in child processes.
"""

from __future__ import annotations

from plan import DEFAULT, NORMAL, Budget, Experiment, Metric, Rival, at_least, at_least_times, at_most, ours_alone

_PROGRAM = "queue_work.py"
_TUNED = '{"scheduler_poll_interval_ms": 1, "scheduler_batch_size": 200}'
_EAGER = '{"worker": ["--delay=0.001"]}'


def _flexiq(settings: str = DEFAULT, **budgets: Budget) -> Rival:
    return Rival("FlexiQ 2.1.0" if settings == DEFAULT else "FlexiQ 2.1.0, tuned", settings, budgets, product="flexiq")


def _huey(settings: str = DEFAULT, **budgets: Budget) -> Rival:
    return Rival("huey, looking all the time" if settings == _EAGER else "huey", settings, budgets, product="huey")


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
            _huey(NORMAL, per_second=at_least_times(1.6)),
            _flexiq(_TUNED, per_second=at_least_times(20)),
        ),
    ),
    Experiment(
        "drain-full",
        _PROGRAM,
        count=20_000,
        quick_count=50,
        ours=DEFAULT,
        mode="drain",
        metrics=(Metric("per_second", "one worker draining no-op jobs, FULL (our default)", "/s"),),
        rivals=(_huey(per_second=at_least_times(5)),),
    ),
    Experiment(
        "drain-default",
        _PROGRAM,
        count=1_000,
        quick_count=20,
        ours=DEFAULT,
        mode="drain",
        metrics=(Metric("per_second", "one worker draining 1,000 no-op jobs, each as it comes", "/s"),),
        rivals=(_flexiq(),),
    ),
    Experiment(
        "drain-def-normal",
        _PROGRAM,
        count=20_000,
        quick_count=50,
        ours=NORMAL,
        our_product="jobify_thread",
        mode="drain",
        metrics=(Metric("per_second", "one worker draining no-op `def` jobs, NORMAL", "/s"),),
        rivals=(
            _huey(NORMAL, per_second=at_least_times(2)),
            _flexiq(_TUNED, per_second=at_least_times(20)),
        ),
    ),
    Experiment(
        "drain-def-full",
        _PROGRAM,
        count=20_000,
        quick_count=50,
        ours=DEFAULT,
        our_product="jobify_thread",
        mode="drain",
        metrics=(Metric("per_second", "one worker draining no-op `def` jobs, FULL", "/s"),),
        rivals=(_huey(per_second=at_least_times(5)),),
    ),
    Experiment(
        "drain-process",
        _PROGRAM,
        count=10_000,
        quick_count=50,
        ours=NORMAL,
        our_product="jobify_process",
        mode="drain",
        metrics=(Metric("per_second", "one worker draining no-op jobs in child processes, NORMAL", "/s"),),
        rivals=ours_alone(per_second=at_least(5_000, "/s")),
    ),
    Experiment(
        "bulk",
        _PROGRAM,
        count=50_000,
        quick_count=500,
        ours=NORMAL,
        mode="bulk",
        metrics=(Metric("per_second", "enqueuing 500 jobs a call, NORMAL", "/s"),),
        rivals=(_flexiq(per_second=at_least_times(2)),),
    ),
    Experiment(
        "single-normal",
        _PROGRAM,
        count=10_000,
        quick_count=50,
        ours=NORMAL,
        mode="single",
        metrics=(Metric("per_second", "enqueuing one job a call, NORMAL", "/s"),),
        rivals=(
            _huey(NORMAL, per_second=at_least_times(1)),
            _flexiq(per_second=at_least_times(1.5)),
        ),
    ),
    Experiment(
        "single-full",
        _PROGRAM,
        count=5_000,
        quick_count=50,
        ours=DEFAULT,
        mode="single",
        metrics=(Metric("per_second", "enqueuing one job a call, FULL", "/s"),),
        rivals=(_huey(per_second=at_least_times(1)),),
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
            Metric("p99_ms", "from the call to the start in an idle worker, p99", "ms"),
        ),
        rivals=(
            _huey(_EAGER, p50_ms=at_most(1, "ms"), p99_ms=at_most(10, "ms")),
            _huey(),
            _flexiq(_TUNED),
            _flexiq(),
        ),
    ),
    Experiment(
        "idle",
        _PROGRAM,
        count=15,
        quick_count=1,
        ours=DEFAULT,
        mode="idle",
        metrics=(
            Metric("cpu_percent", "an idle worker: share of a core", "%"),
            Metric("memory_mb", "an idle worker: memory", "MB"),
        ),
        rivals=(
            _flexiq(cpu_percent=at_most(0.15, "%"), memory_mb=at_most(45, "MB")),
            _huey(),
        ),
    ),
    Experiment(
        "memory",
        _PROGRAM,
        count=100_000,
        quick_count=200,
        ours=NORMAL,
        mode="memory",
        metrics=(Metric("memory_mb", "a worker that has run 100,000 jobs: memory", "MB"),),
        rivals=(_huey(NORMAL, memory_mb=at_most(42, "MB")),),
    ),
    Experiment(
        "memory-def",
        _PROGRAM,
        count=100_000,
        quick_count=200,
        ours=NORMAL,
        our_product="jobify_thread",
        mode="memory",
        metrics=(Metric("memory_mb", "a worker that has run 100,000 `def` jobs: memory", "MB"),),
        rivals=ours_alone(memory_mb=at_most(42, "MB")),
    ),
)
