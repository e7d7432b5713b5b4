"""A process task that waits for another one, importable in a child process."""

from __future__ import annotations

import os
from functools import lru_cache

from jobify import Jobify, RunMode


def build() -> Jobify:
    """An app on the database that the environment names."""
    app = Jobify(storage=os.environ["WAITING_DB"])
    app.task(nest, name="nest", run_mode=RunMode.PROCESS)
    return app


@lru_cache
def here() -> Jobify:
    """The app of this process."""
    return build()


def nest(depth: int) -> int:
    if depth == 0:
        return 0
    job = here().enqueue("nest", args=(depth - 1,))
    below: int = job.result(timeout=60)
    return below + 1
