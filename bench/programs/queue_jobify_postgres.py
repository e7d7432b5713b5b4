"""Ours on PostgreSQL: a script that enqueues, a worker beside it."""

from __future__ import annotations

import os

from our_queue import OurQueue
from queue_work import POSTGRES, picked_up, ran

from jobify import Jobify
from jobify.storage import PostgresStorage

app = Jobify(storage=PostgresStorage(os.environ[POSTGRES]))


@app.task(name="noop")
async def noop(number: int) -> int:
    ran()
    return number


@app.task(name="measure")
async def measure(sent_ns: int) -> None:
    picked_up(sent_ns)


product = OurQueue("queue_jobify_postgres", noop, measure)
