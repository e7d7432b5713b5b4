"""The same work on PostgreSQL, by queues that keep their jobs there: all on one server, each in a database of its own.

Each commit is flushed, as the server does by itself. PgQueuer deletes a job that has ended and keeps a line of log, in
tables that are flushed; Procrastinate and ours keep the job.
"""

from __future__ import annotations

from plan import DEFAULT, Budget, Experiment, Metric, Rival, at_least_times, at_most, ours_alone

_PROGRAM = "queue_work.py"
_OURS = "jobify_postgres"
_TUNED = '{"managers": 2, "batch": 100}'


def _pgqueuer(settings: str = DEFAULT, **budgets: Budget) -> Rival:
    name = "PgQueuer 1.6.0" if settings == DEFAULT else "PgQueuer 1.6.0, tuned"
    return Rival(name, settings, budgets, product="pgqueuer")


_PROCRASTINATE = Rival("Procrastinate 3.10.0", DEFAULT, product="procrastinate")


def _workers(number: int) -> Experiment:
    """Our drain by several workers."""
    return Experiment(
        f"postgres-workers-{number}",
        _PROGRAM,
        count=20_000 * number,
        quick_count=50,
        ours=f'{{"workers": {number}}}',
        our_product=_OURS,
        mode="drain",
        metrics=(Metric("per_second", f"{number} workers draining no-op jobs, PostgreSQL", "/s"),),
        rivals=ours_alone(),
        on_postgres=True,
    )


POSTGRES_EXPERIMENTS = (
    Experiment(
        "postgres-drain",
        _PROGRAM,
        count=20_000,
        quick_count=50,
        ours=DEFAULT,
        our_product=_OURS,
        mode="drain",
        metrics=(Metric("per_second", "one worker draining no-op jobs, PostgreSQL", "/s"),),
        rivals=(_pgqueuer(per_second=at_least_times(3)), _pgqueuer(_TUNED, per_second=at_least_times(1.3))),
        on_postgres=True,
    ),
    Experiment(
        "postgres-drain-2000",
        _PROGRAM,
        count=2_000,
        quick_count=50,
        ours=DEFAULT,
        our_product=_OURS,
        mode="drain",
        metrics=(Metric("per_second", "one worker draining 2,000 no-op jobs, PostgreSQL", "/s"),),
        rivals=(_PROCRASTINATE,),
        on_postgres=True,
    ),
    _workers(2),
    _workers(4),
    Experiment(
        "postgres-sustained",
        _PROGRAM,
        count=20_000,
        quick_count=200,
        ours=DEFAULT,
        our_product=_OURS,
        mode="sustained",
        metrics=(Metric("per_second", "one worker, while 100 jobs a call are enqueued, PostgreSQL", "/s"),),
        rivals=(_pgqueuer(per_second=at_least_times(3)), _pgqueuer(_TUNED, per_second=at_least_times(1.3))),
        on_postgres=True,
    ),
    Experiment(
        "postgres-bulk",
        _PROGRAM,
        count=50_000,
        quick_count=500,
        ours=DEFAULT,
        our_product=_OURS,
        mode="bulk",
        metrics=(Metric("per_second", "enqueuing 500 jobs a call, PostgreSQL", "/s"),),
        rivals=(_pgqueuer(per_second=at_least_times(2)), _PROCRASTINATE),
        on_postgres=True,
    ),
    Experiment(
        "postgres-single",
        _PROGRAM,
        count=5_000,
        quick_count=50,
        ours=DEFAULT,
        our_product=_OURS,
        mode="single",
        metrics=(Metric("per_second", "enqueuing one job a call, PostgreSQL", "/s"),),
        rivals=(_pgqueuer(), _PROCRASTINATE),
        on_postgres=True,
    ),
    Experiment(
        "postgres-crowd",
        "postgres_crowd.py",
        count=500,
        quick_count=10,
        ours=DEFAULT,
        mode="enqueue",
        our_product="jobify",
        metrics=(
            Metric("per_second", "enqueuing by 24 connections while a process listens, PostgreSQL", "/s"),
            Metric("cost_percent", "enqueuing by 24 connections: what notifications cost of the rate", "%"),
        ),
        rivals=(Rival("PgQueuer 1.6.0", DEFAULT, {"cost_percent": at_most(15, "%")}, product="pgqueuer"),),
        on_postgres=True,
    ),
    Experiment(
        "postgres-pickup",
        _PROGRAM,
        count=200,
        quick_count=5,
        ours=DEFAULT,
        our_product=_OURS,
        mode="pickup",
        metrics=(
            Metric("p50_ms", "from the call to the start in an idle worker, PostgreSQL, p50", "ms"),
            Metric("p99_ms", "from the call to the start in an idle worker, PostgreSQL, p99", "ms"),
        ),
        rivals=(
            _pgqueuer(p50_ms=at_most(2, "ms"), p99_ms=at_most(8, "ms")),
            _pgqueuer(_TUNED),
            _PROCRASTINATE,
        ),
        on_postgres=True,
    ),
    Experiment(
        "postgres-idle",
        _PROGRAM,
        count=30,
        quick_count=1,
        ours=DEFAULT,
        our_product=_OURS,
        mode="queries",
        metrics=(Metric("per_second", "an idle worker: transactions a second on PostgreSQL", ""),),
        rivals=(_pgqueuer(per_second=at_most(1, "a second")), _PROCRASTINATE),
        on_postgres=True,
    ),
)
