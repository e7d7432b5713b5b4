"""What unique= and debounce= cost: calls one after the other, of tasks with and without them, in one process."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import argument, report

from jobify import Debounce, Jobify, Unique
from jobify.storage import SQLiteStorage

OPTIONS = json.loads(os.environ.get("BENCH_STORAGE", "{}"))
ROUNDS = 5
KINDS: dict[str, tuple[dict[str, Any], Callable[[int], int]]] = {
    "plain": ({}, lambda number: number),
    "unique_new": ({"unique": Unique("key")}, lambda number: number),
    "unique_kept": ({"unique": Unique("key")}, lambda _: -1),
    "debounce_new": ({"debounce": Debounce(600, key="key")}, lambda number: number),
    "debounce_merged": ({"debounce": Debounce(600, key="key")}, lambda _: -1),
}
"""The options of a task, and the keys of its calls."""


def calls(options: dict[str, Any], key_of: Callable[[int], int], count: int) -> float:
    """Calls a second."""
    with tempfile.TemporaryDirectory() as directory:
        app = Jobify(storage=SQLiteStorage(Path(directory) / "jobs.db", **OPTIONS))

        def noop(key: int) -> None:
            pass

        task: Any = app.task(noop, name="noop", **options)
        task.delay(-1)
        started = time.perf_counter()
        for number in range(count):
            task.delay(key_of(number))
        took = time.perf_counter() - started
        app.close()
        return count / took


def main(count: int) -> None:
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(ROUNDS):
        for kind, (options, key_of) in KINDS.items():
            rates[kind].append(calls(options, key_of, count))
    medians = {kind: statistics.median(values) for kind, values in rates.items()}
    shares = {f"{kind}_share": medians[kind] / medians["plain"] for kind in KINDS if kind != "plain"}
    report(per_second=medians["debounce_merged"], **shares)


main(argument(3_000))
