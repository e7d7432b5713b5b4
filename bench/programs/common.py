"""What the measured programs share. Everything here exists in both releases that are compared.

A program runs in an empty folder, reads its counts from the command line and its storage from the environment, and
prints one JSON object of numbers. So the same file, unchanged, measures whichever `jobify` its interpreter finds.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from jobify import Jobify
from jobify.storage import SQLiteStorage

DATABASE = "bench.db"


def make_app() -> Jobify:
    """An app with the storage that `BENCH_STORAGE` names: `memory`, or SQLite with these keyword arguments as JSON.

    Releases take different options, so the driver chooses them: `{}`, `{"synchronous": "normal"}`, ...
    """
    storage = os.environ.get("BENCH_STORAGE", "{}")
    if storage == "memory":
        return Jobify(storage=False)
    options: dict[str, Any] = json.loads(storage)
    return Jobify(storage=SQLiteStorage(DATABASE, **options))


def argument(default: int) -> int:
    """The only command line argument, a whole number: how many jobs or timers."""
    return int(sys.argv[1]) if len(sys.argv) > 1 else default


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of `values` lie, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def report(**numbers: float) -> None:
    """Print the measured numbers where the driver reads them: the last line of the output."""
    print(json.dumps(numbers))
