"""Ours: a script that enqueues, a worker beside it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from common import make_app
from queue_work import picked_up, ran

app = make_app()


@app.task(name="noop")
async def noop(number: int) -> int:
    ran()
    return number


@app.task(name="measure")
async def measure(sent_ns: int) -> None:
    picked_up(sent_ns)


class OurQueue:
    worker = (sys.executable, "-m", "jobify", "worker", "queue_jobify:app")

    def noop(self, number: int) -> object:
        return noop.delay(number)

    def noops(self, numbers: Sequence[int]) -> object:
        return noop.map([(number,) for number in numbers])

    def measure(self, sent_ns: int) -> object:
        return measure.delay(sent_ns)


product = OurQueue()
