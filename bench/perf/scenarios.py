"""What is counted: six stretches of the fast paths, as a program that prints the counts for each job.

Runs in an empty folder as ``python scenarios.py NAME``.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from counters import Counters

from jobify import Jobify
from jobify.storage import SQLiteStorage

DATABASE = Path("perf.db")
WINDOWS = 8
SHORT_WINDOWS = 60  # most must end before what is done now and then, by time or for many pages, is done again

counters = Counters(DATABASE)
app = Jobify(storage=SQLiteStorage(DATABASE))
calls: list[int] = []


@app.task(name="noop")
async def noop(number: int) -> int:
    calls.append(number)
    return number


@app.task(name="noop_in_thread")
def noop_in_thread(number: int) -> int:
    calls.append(number)
    return number


def delay() -> None:
    """A script calls `delay` again and again: one transaction for each job."""
    jobs = 5
    for _ in range(SHORT_WINDOWS):
        noop.delay(0)
        counters.empty_log()
        noop.delay(0)
        with counters.window(jobs):
            for number in range(jobs):
                noop.delay(number)


def bulk() -> None:
    """A script enqueues 500 jobs with one call."""
    jobs = 500
    for _ in range(WINDOWS):
        noop.map([(0,)])
        counters.empty_log()
        noop.map([(0,)])
        with counters.window(jobs):
            noop.map([(number,) for number in range(jobs)])


async def push_at_once() -> None:
    """A running app pushes many jobs in one turn of the loop, and waits for all results."""
    jobs = 300
    async with app:
        for _ in range(WINDOWS):
            await (await noop.push(0))
            counters.empty_log()
            await (await noop.push(0))
            with counters.window(jobs):
                pushed = await asyncio.gather(*(noop.push(number) for number in range(jobs)))
                await asyncio.gather(*pushed)


async def push_one_at_a_time() -> None:
    """A running app pushes a job and waits for its result, again and again."""
    jobs = 5
    async with app:
        for _ in range(SHORT_WINDOWS):
            await (await noop.push(0))
            counters.empty_log()
            await (await noop.push(0))
            with counters.window(jobs):
                for number in range(jobs):
                    await (await noop.push(number))


async def drain_async() -> None:
    """An app starts on a queue of jobs that are `async def`, and runs all of them."""
    await _drain(noop, 1_000)


async def drain_thread() -> None:
    """The same with jobs that are a plain `def`."""
    await _drain(noop_in_thread, 1_000)


async def _drain(task: Any, jobs: int) -> None:
    for _ in range(WINDOWS):
        task.map([(number,) for number in range(jobs)])
        calls.clear()
        with counters.window(jobs):
            await app.startup()
            await app.wait_all()
        await app.shutdown()
        if len(calls) != jobs:
            raise SystemExit(f"{len(calls)} of {jobs} jobs have run")


SCENARIOS: dict[str, Callable[[], Any]] = {
    "delay": delay,
    "bulk": bulk,
    "push-at-once": push_at_once,
    "push-one-at-a-time": push_one_at_a_time,
    "drain-async": drain_async,
    "drain-thread": drain_thread,
}

if __name__ == "__main__":
    scenario = SCENARIOS[sys.argv[1]]
    if asyncio.iscoroutinefunction(scenario):
        asyncio.run(scenario())
    else:
        scenario()
    print(json.dumps(counters.least()))
