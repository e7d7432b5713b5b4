"""Ours: a script that enqueues, a worker beside it."""

from __future__ import annotations

from common import make_app
from our_queue import OurQueue
from queue_work import picked_up, ran

app = make_app()


@app.task(name="noop")
async def noop(number: int) -> int:
    ran()
    return number


@app.task(name="measure")
async def measure(sent_ns: int) -> None:
    picked_up(sent_ns)


product = OurQueue("queue_jobify", noop, measure)
