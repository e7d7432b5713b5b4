"""A process that is going to be killed: an app with tasks of every kind, which pushes jobs and runs them.

Started by :mod:`tests.crash.killing` as ``python -m tests.crash.victim ROLE PUSHES_PER_SECOND`` in a directory that
``KILLING_DIRECTORY`` names. Role ``worker`` pushes and works; role ``pusher`` only pushes. What happens is written down
in two files that all processes append to, a line per event, each by one ``write``:

``journal``  ``event key pid worker time``: an execution started, gave a sign of life, finished; a process is up
``acks``     ``key number``: a push returned; on disk before anything else happens
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from jobify import INJECT, Cron, JobContext, Jobify, MisfirePolicy, RunMode
from jobify.storage import SQLiteStorage

DIRECTORY = Path(os.environ["KILLING_DIRECTORY"])
SYNCHRONOUS: Any = os.environ.get("KILLING_SYNCHRONOUS", "full")
BEAT = 0.02
"""Seconds between two signs of life."""

app = Jobify(
    storage=SQLiteStorage(DIRECTORY / "jobs.db", synchronous=SYNCHRONOUS),
    max_crashes=1_000_000,
    grace=10,  # in the end a run of the cron may be under way: it is to finish, and not to be given back
)


def append(name: str, text: str, *, is_flushed: bool = False) -> None:
    """Add ``text`` to a file that others append to as well."""
    descriptor = os.open(DIRECTORY / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(descriptor, text.encode())
        if is_flushed:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def note(event: str, key: str, worker: int | None = None) -> None:
    """Write down what happens in this process, or in a child of ``worker``."""
    append("journal", f"{event} {key} {os.getpid()} {worker or os.getpid()} {time.time_ns() // 1000}\n")


def work(key: str, number: int, beats: int, worker: int | None = None) -> int:
    """What the blocking tasks do."""
    note("started", key, worker)
    for _ in range(beats):
        time.sleep(BEAT)
        note("lives", key, worker)
    note("finished", key, worker)
    return number * number


@app.task(name="on_loop")
async def on_loop(key: str, number: int, beats: int) -> int:
    note("started", key)
    for _ in range(beats):
        await asyncio.sleep(BEAT)
        note("lives", key)
    note("finished", key)
    return number * number


@app.task(name="in_thread")
def in_thread(key: str, number: int, beats: int) -> int:
    return work(key, number, beats)


@app.task(name="in_process", run_mode=RunMode.PROCESS)
def in_process(key: str, number: int, beats: int) -> int:
    return work(key, number, beats, os.getppid())


@app.task(name="tick", cron=Cron("* * * * * * *", misfire_policy=MisfirePolicy.ALL))
async def tick(context: JobContext = INJECT) -> None:
    key = f"tick@{context.job.due_at}"
    note("started", key)
    for _ in range(random.randrange(20)):  # long enough to be killed in the middle of it
        await asyncio.sleep(BEAT)
        note("lives", key)
    note("finished", key)


# -- pushing -----------------------------------------------------------------------------------------------------------


async def push(key: str) -> str:
    """Push one job of some kind, now or for soon; the line that acknowledges it."""
    task = random.choice((on_loop, on_loop, in_thread, in_thread, in_process))
    number = random.randrange(1_000_000)
    builder = task.schedule(key, number, random.choice((0, 0, 0, 1, 5, 10, 40)))
    if random.random() < 0.5:
        await builder.push(job_id=key)
    else:
        await builder.delay(random.random() / 2, job_id=key)
    return f"{key} {number}\n"


async def push_steadily(rate: float) -> None:
    """Push bursts of 1 to 20 jobs, ``rate`` jobs a second, until told to stop."""
    count = 0
    while not (DIRECTORY / "stop").exists():
        burst = random.randint(1, 20)
        begun = time.monotonic()
        acks = await asyncio.gather(
            *(push(f"{os.getpid()}-{time.time_ns()}-{count + index}") for index in range(burst))
        )
        append("acks", "".join(acks), is_flushed=True)
        count += burst
        await asyncio.sleep(max(0.0, burst / rate * random.uniform(0.5, 1.5) - (time.monotonic() - begun)))


async def only_push() -> None:
    """Make this app one that stores what is asked for and runs nothing."""
    engine = app._engine
    assert engine is not None
    engine._intake.is_draining = True
    for dispatcher in engine._dispatchers.values():
        await dispatcher.stop()


async def main(role: str, rate: float) -> None:
    async with app:
        if role == "pusher":
            await only_push()
        note("up", role)
        if rate:
            await push_steadily(rate)
        while not (DIRECTORY / "end").exists():  # noqa: ASYNC110  the other side is another process
            await asyncio.sleep(0.05)
    note("down", role)


if __name__ == "__main__":
    logging.basicConfig(format="%(process)d %(levelname)s %(message)s")
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
