"""A worker that is going to be killed, with tasks that have limits; see :mod:`tests.crash.limit_trace`."""

from __future__ import annotations

import asyncio
import os
import random
import time
from typing import Any

from tests.crash.databases import storage_of

from jobify import Concurrency, Jobify, Rate

SHARED, KEYED, RATE, PER, BURST = 6, 1, 300, 2, 10
"""What the limits allow."""

_trace = os.open(os.path.join(os.environ["KILLING_DIRECTORY"], "trace"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
_synchronous: Any = os.environ.get("KILLING_SYNCHRONOUS", "normal")

shared = Concurrency(SHARED, name="shared")
keyed = Concurrency(KEYED, key="key", name="keyed")

app = Jobify(storage=storage_of(os.environ["KILLING_DATABASE"], _synchronous), max_crashes=50)


def note(event: str, task: str, key: int, number: int) -> None:
    os.write(_trace, f"{event} {task} {key} {number} {os.getpid()} {time.time_ns() // 1000}\n".encode())


async def work(task: str, key: int, number: int) -> None:
    note("begin", task, key, number)
    await asyncio.sleep(random.random() * 0.003)
    note("end", task, key, number)


@app.task(name="shared", limits=[shared])
async def in_shared(key: int, number: int) -> None:
    await work("shared", key, number)


@app.task(name="keyed", limits=[keyed])
async def in_keyed(key: int, number: int) -> None:
    await work("keyed", key, number)


@app.task(name="both", limits=[shared, keyed])
async def in_both(key: int, number: int) -> None:
    await work("both", key, number)


@app.task(name="thread", limits=[keyed])
def in_thread(key: int, number: int) -> None:
    note("begin", "thread", key, number)
    time.sleep(random.random() * 0.003)
    note("end", "thread", key, number)


@app.task(name="rated", limits=[Rate(RATE, per=PER, burst=BURST, name="rated")])
async def in_rated(key: int, number: int) -> None:
    await work("rated", key, number)
