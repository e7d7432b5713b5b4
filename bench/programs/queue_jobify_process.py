"""Ours with tasks that run in child processes of the worker."""

from __future__ import annotations

from common import make_app
from our_queue import OurQueue
from queue_work import picked_up, ran_in_child

from jobify import RunMode

app = make_app()


@app.task(name="noop", run_mode=RunMode.PROCESS)
def noop(number: int) -> int:
    ran_in_child()
    return number


@app.task(name="measure")
def measure(sent_ns: int) -> None:
    picked_up(sent_ns)


product = OurQueue("queue_jobify_process", noop, measure)
