"""RQ with Redis. Its simple worker runs the jobs in its own process; the usual one forks for each job."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from queue_work import REDIS, picked_up, ran
from redis import Redis  # type: ignore[import-not-found]  # the peer's environment has it
from rq import Queue  # type: ignore[import-not-found]

_SOCKET = os.environ[REDIS]
queue = Queue(connection=Redis(unix_socket_path=_SOCKET))


def noop(number: int) -> int:
    ran()
    return number


def measure(sent_ns: int) -> None:
    picked_up(sent_ns)


class RQ:
    worker = (
        str(Path(sys.executable).with_name("rq")), "worker", "--quiet",
        "--worker-class", "rq.SimpleWorker", "--url", f"unix://{_SOCKET}",
    )  # fmt: skip

    def noop(self, number: int) -> object:
        return queue.enqueue(noop, number)

    def noops(self, numbers: Sequence[int]) -> object:
        return queue.enqueue_many([Queue.prepare_data(noop, (number,)) for number in numbers])

    def measure(self, sent_ns: int) -> object:
        return queue.enqueue(measure, sent_ns)


product = RQ()
