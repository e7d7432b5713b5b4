"""Celery with Redis. Its worker has the solo pool: as the others, it runs the jobs in its one process."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from celery import Celery  # type: ignore[import-not-found]  # the peer's environment has it
from queue_work import REDIS, picked_up, ran

_SOCKET = os.environ[REDIS]
app = Celery("bench", broker=f"redis+socket://{_SOCKET}", backend=f"redis+socket://{_SOCKET}")
app.conf.worker_prefetch_multiplier = 100  # the default asks for four jobs at a time


@app.task(name="noop")  # type: ignore[untyped-decorator]  # it has no types here
def noop(number: int) -> int:
    ran()
    return number


@app.task(name="measure")  # type: ignore[untyped-decorator]  # it has no types here
def measure(sent_ns: int) -> None:
    picked_up(sent_ns)


class CeleryQueue:
    worker = (
        str(Path(sys.executable).with_name("celery")), "--app", "queue_celery",
        "worker", "--pool=solo", "--loglevel=error", "--without-gossip", "--without-mingle",
    )  # fmt: skip

    def noop(self, number: int) -> object:
        return noop.delay(number)  # pyright: ignore[reportFunctionMemberAccess]  # no types here

    def noops(self, numbers: Sequence[int]) -> object:
        return [self.noop(number) for number in numbers]  # there is no call for many

    def measure(self, sent_ns: int) -> object:
        return measure.delay(sent_ns)  # pyright: ignore[reportFunctionMemberAccess]  # no types here


product = CeleryQueue()
