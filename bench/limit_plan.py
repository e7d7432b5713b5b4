"""What limits cost, against the same work without them."""

from __future__ import annotations

from plan import NORMAL, Experiment, Metric, at_least, at_most, ours_alone

LIMIT_EXPERIMENTS = (
    Experiment(
        "limits",
        "limits.py",
        count=10_000,
        quick_count=50,
        ours=NORMAL,
        metrics=(
            Metric("per_second", "one worker draining no-op jobs with one hot gate, Concurrency(100)", "/s"),
            Metric("gate_share", "the same, as a share of jobs without limits", "×"),
            Metric("keys_100_share", "Concurrency(20) for each of 100 keys, as a share", "×"),
            Metric("keys_10000_share", "Concurrency(1) for each of 10,000 keys, as a share", "×"),
            Metric("rate_share", "a Rate that holds nothing back, as a share", "×"),
            Metric("fair_share", "Fair with 100 keys, as a share", "×"),
            Metric("batch_share", "one call for up to 500 of them, Batch(500), as a share", "×"),
            Metric("handing_over_ms", "from the end of a job to the start of the next at a gate for one, p50", "ms"),
            Metric("beside_waiting", "jobs of other tasks, beside 100,000 that wait at a closed gate", "×"),
        ),
        rivals=ours_alone(
            gate_share=at_least(0.5, "×"), handing_over_ms=at_most(2, "ms"), beside_waiting=at_most(1.1, "×")
        ),
    ),
    Experiment(
        "merging",
        "merging.py",
        count=3_000,
        quick_count=20,
        ours=NORMAL,
        metrics=(
            Metric("per_second", "calls of a debounced task that are merged, one after the other", "/s"),
            Metric("unique_new_share", "calls of a unique task, each with another key, as a share of plain ones", "×"),
            Metric("unique_kept_share", "calls of a unique task that find a job, as a share", "×"),
            Metric("debounce_new_share", "calls of a debounced task, each with another key, as a share", "×"),
            Metric("debounce_merged_share", "calls of a debounced task that are merged, as a share", "×"),
        ),
        rivals=(),
    ),
)
