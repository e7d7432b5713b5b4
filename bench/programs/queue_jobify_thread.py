"""Ours with tasks that are a plain `def`, which run in threads of the worker: what most people write."""

from __future__ import annotations

from common import make_app
from our_queue import OurQueue
from queue_work import picked_up, ran

app = make_app()


@app.task(name="noop")
def noop(number: int) -> int:
    ran()
    return number


@app.task(name="measure")
def measure(sent_ns: int) -> None:
    picked_up(sent_ns)


product = OurQueue("queue_jobify_thread", noop, measure)
