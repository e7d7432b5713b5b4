"""The same work by queues that have a broker: Celery and RQ with a Redis on the same machine.

Redis flushes nothing, so ours is compared at NORMAL where it enqueues and drains. These rows have no budget: they say
what a broker gains and costs.
"""

from __future__ import annotations

from plan import DEFAULT, NORMAL, Experiment, Metric, Rival

_PROGRAM = "queue_work.py"
_RIVALS = (
    Rival("Celery, Redis", DEFAULT, product="celery", needs_redis=True),
    Rival("RQ, Redis", DEFAULT, product="rq", needs_redis=True),
)

BROKER_EXPERIMENTS = (
    Experiment(
        "broker-drain",
        _PROGRAM,
        count=3_000,
        quick_count=50,
        ours=NORMAL,
        our_product="jobify_thread",
        mode="drain",
        metrics=(Metric("per_second", "one worker draining 3,000 no-op `def` jobs", "/s"),),
        rivals=_RIVALS,
    ),
    Experiment(
        "broker-single",
        _PROGRAM,
        count=3_000,
        quick_count=50,
        ours=NORMAL,
        mode="single",
        metrics=(Metric("per_second", "enqueuing 3,000 jobs, one a call", "/s"),),
        rivals=_RIVALS,
    ),
    Experiment(
        "broker-pickup",
        _PROGRAM,
        count=100,
        quick_count=5,
        ours=DEFAULT,
        our_product="jobify_thread",
        mode="pickup",
        metrics=(Metric("p50_ms", "from the call to the start of a `def` job in an idle worker, p50", "ms"),),
        rivals=_RIVALS,
    ),
    Experiment(
        "broker-idle",
        _PROGRAM,
        count=10,
        quick_count=1,
        ours=DEFAULT,
        mode="idle",
        metrics=(
            Metric("cpu_percent", "an idle worker, the broker not counted: share of a core", "%"),
            Metric("memory_mb", "an idle worker, the broker not counted: memory", "MB"),
        ),
        rivals=_RIVALS,
    ),
)
