"""A process that is going to be killed: an app with tasks of every kind, which pushes jobs and runs them.

Started by :mod:`tests.crash.killing` in a directory that ``KILLING_DIRECTORY`` names, as ``python -m
tests.crash.victim ROLE NUMBERS``, where role ``app`` pushes (so many jobs a second) and works, ``producer`` enqueues
without running an app (:mod:`tests.crash.producer`), and ``killers`` enqueues once; or, as a worker, with ``python -m
jobify worker``. What happens is written down in files that all processes append to, a line per event, each by one
``write``:

``journal``  ``event key pid worker time``: an execution started, gave a sign of life, finished; a process is up
``acks``     ``key number time``: a push that was begun then has returned; on disk before anything else happens
``refused``  ``key time``: a push raised an error of the storage, and nothing may be stored
``parents``  ``key parent``: a push with a dependency returned

The environment says the rest: ``KILLING_DATABASE`` the URL, ``KILLING_SYNCHRONOUS``, ``KILLING_MAX_CRASHES``, and
``KILLING_CLOCK`` a file that holds by how many microseconds the clock of all these processes is wrong.
"""

from __future__ import annotations

import asyncio
import logging
import mmap
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.crash.databases import storage_of

from jobify import INJECT, Cron, JobContext, Jobify, MisfirePolicy, RunMode
from jobify.exceptions import StorageError
from jobify.model.clock import SystemClock

DIRECTORY = Path(os.environ["KILLING_DIRECTORY"])
DATABASE = os.environ["KILLING_DATABASE"]
SYNCHRONOUS: Any = os.environ.get("KILLING_SYNCHRONOUS", "full")
MAX_CRASHES = int(os.environ.get("KILLING_MAX_CRASHES", "3"))
BEAT = 0.02
"""Seconds between two signs of life."""


class SharedClock(SystemClock):
    """A wall clock that is wrong by what the file says, for every process that reads it."""

    def __init__(self, path: str) -> None:
        with open(path, "rb") as file:
            self._offset = memoryview(mmap.mmap(file.fileno(), 8, prot=mmap.PROT_READ)).cast("q")

    def now(self) -> int:
        return super().now() + self._offset[0]


@asynccontextmanager
async def lifespan(_: Jobify) -> AsyncIterator[None]:
    note("up", "worker")
    yield


app = Jobify(
    storage=storage_of(DATABASE, SYNCHRONOUS),
    max_crashes=MAX_CRASHES,
    **({"clock": SharedClock(os.environ["KILLING_CLOCK"])} if "KILLING_CLOCK" in os.environ else {}),
    grace=10,  # in the end a run of the cron may be under way: it is to finish, and not to be given back
    lifespan=lifespan,
)


# Opened at once and kept: the system may refuse this process descriptors later.
_FILES = {
    name: os.open(DIRECTORY / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for name in ("journal", "acks", "refused", "parents")
}


def append(name: str, text: str, *, is_flushed: bool = False) -> None:
    """Add ``text`` to a file that others append to as well."""
    os.write(_FILES[name], text.encode())
    if is_flushed:
        os.fsync(_FILES[name])


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


@app.task(name="doomed")
async def doomed(key: str) -> None:
    note("started", key)
    raise ValueError("doomed")


@app.task(name="killer")
async def killer(key: str) -> None:
    note("started", key)
    await asyncio.sleep(BEAT)
    os.kill(os.getpid(), signal.SIGKILL)


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
    number, begun_at = random.randrange(1_000_000), time.time_ns() // 1000
    builder = task.schedule(key, number, random.choice((0, 0, 0, 1, 5, 10, 40)))
    try:
        if random.random() < 0.5:
            await builder.push(job_id=key)
        else:
            await builder.delay(random.random() / 2, job_id=key)
    except StorageError:
        append("refused", f"{key} {time.time_ns() // 1000}\n")
        return ""
    return f"{key} {number} {begun_at}\n"


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


def enqueue_killers(killers: int, innocents: int) -> None:
    """Enqueue jobs that kill their process among others that do not, in one transaction."""
    calls = [on_loop.s(f"innocent-{n}", n, 2).set(job_id=f"innocent-{n}") for n in range(innocents)]
    calls += [killer.s(f"killer-{n}").set(job_id=f"killer-{n}") for n in range(killers)]
    random.shuffle(calls)
    app.enqueue_many(calls)


async def main(rate: float) -> None:
    async with app:
        if rate:
            await push_steadily(rate)
        while not (DIRECTORY / "end").exists():  # noqa: ASYNC110  the other side is another process
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    logging.basicConfig(format="%(process)d %(levelname)s %(message)s")
    if sys.argv[1] == "app":
        asyncio.run(main(float(sys.argv[2])))
    elif sys.argv[1] == "killers":
        enqueue_killers(int(sys.argv[2]), int(sys.argv[3]))
    else:
        from tests.crash.producer import produce_steadily

        produce_steadily(float(sys.argv[2]))
