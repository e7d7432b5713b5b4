"""Ours with tasks that are a plain `def`, which run in threads of the worker: what most people write."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from common import make_app
from queue_work import picked_up, ran

app = make_app()


@app.task(name="noop")
def noop(number: int) -> int:
    ran()
    return number


@app.task(name="measure")
def measure(sent_ns: int) -> None:
    picked_up(sent_ns)


class ThreadQueue:
    worker = (sys.executable, "-m", "jobify", "worker", "queue_jobify_thread:app")

    def noop(self, number: int) -> object:
        return noop.delay(number)

    def noops(self, numbers: Sequence[int]) -> object:
        return noop.map([(number,) for number in numbers])

    def measure(self, sent_ns: int) -> object:
        return measure.delay(sent_ns)


product = ThreadQueue()
