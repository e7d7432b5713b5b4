"""What the measured programs share. Everything here exists in both releases that are compared.

A program runs in an empty folder, reads its counts from the command line and its storage from the environment, and
prints one JSON object of numbers. So the same file, unchanged, measures whichever `jobify` its interpreter finds.
"""

from __future__ import annotations

import json
import os
from typing import Any

from measuring import argument, percentile, report

from jobify import Jobify
from jobify.storage import SQLiteStorage

__all__ = ("DATABASE", "argument", "make_app", "percentile", "report")

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
