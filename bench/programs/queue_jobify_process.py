"""Ours with tasks that run in child processes of the worker."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from common import make_app
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


class ProcessQueue:
    worker = (sys.executable, "-m", "jobify", "worker", "queue_jobify_process:app")

    def noop(self, number: int) -> object:
        return noop.delay(number)

    def noops(self, numbers: Sequence[int]) -> object:
        return noop.map([(number,) for number in numbers])

    def measure(self, sent_ns: int) -> object:
        return measure.delay(sent_ns)


product = ProcessQueue()
