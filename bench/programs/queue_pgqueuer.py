"""PgQueuer with asyncpg. As it comes, its worker is what `pgq run` makes: one manager, batches of 10, uvloop.

Tuned, it is two managers in a process with batches of 100, each on a connection of its own. (The command itself does
not start with every release of the library that reads its options.)
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it has no types
import uvloop
from pgqueuer import PgQueuer  # type: ignore[import-not-found]
from pgqueuer.db import AsyncpgDriver  # type: ignore[import-not-found]
from pgqueuer.models import Job  # type: ignore[import-not-found]
from pgqueuer.queries import Queries  # type: ignore[import-not-found]
from queue_work import POSTGRES, picked_up, ran, settings

_URL = os.environ[POSTGRES]


async def manager() -> PgQueuer:
    """A manager with the tasks, on a new connection."""
    pgq = PgQueuer.from_asyncpg_connection(await asyncpg.connect(_URL))

    @pgq.entrypoint("noop")  # type: ignore[untyped-decorator]  # it is not installed here
    async def noop(job: Job) -> None:
        ran()

    @pgq.entrypoint("measure")  # type: ignore[untyped-decorator]
    async def measure(job: Job) -> None:
        picked_up(int(job.payload))

    return pgq


async def several(managers: int, batch: int) -> None:
    """A worker process of several managers."""
    made = [await manager() for _ in range(managers)]
    await asyncio.gather(*[one.run(batch_size=batch) for one in made])


class PgQueuerQueue:
    worker = (sys.executable, "-m", "queue_pgqueuer")

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._queries: Any = None

    def prepare(self) -> None:
        self._run(self._connected(install=True))

    def noop(self, number: int) -> object:
        return self._run(self._enqueue("noop", b"%d" % number, 0))

    def noops(self, numbers: Sequence[int]) -> object:
        payloads = [b"%d" % number for number in numbers]
        return self._run(self._enqueue(["noop"] * len(payloads), payloads, [0] * len(payloads)))

    def measure(self, sent_ns: int) -> object:
        return self._run(self._enqueue("measure", b"%d" % sent_ns, 0))

    def _run(self, work: Coroutine[Any, Any, object]) -> object:
        return self._loop.run_until_complete(work)

    async def _connected(self, *, install: bool = False) -> None:
        self._queries = Queries(AsyncpgDriver(await asyncpg.connect(_URL)))
        if install:
            await self._queries.install()

    async def _enqueue(self, task: Any, payload: Any, priority: Any) -> object:
        if self._queries is None:
            await self._connected()
        queries: Any = self._queries
        found: object = await queries.enqueue(task, payload, priority)
        return found


product = PgQueuerQueue()

if __name__ == "__main__":
    options = settings()
    uvloop.run(several(int(str(options.get("managers", 1))), int(str(options.get("batch", 10)))))
