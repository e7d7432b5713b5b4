"""What limits cost: the same no-op jobs drained with each kind of limit and without one, in turns in one process.

Also: the same jobs where one call runs many; from the end of a job to the start of the next one at a gate for one; and
claims of other tasks while many jobs wait at a closed gate.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measuring import argument, report

from jobify import Batch, Call, Concurrency, Fair, Jobify, Rate
from jobify.storage import SQLiteStorage

OPTIONS = json.loads(os.environ.get("BENCH_STORAGE", "{}"))
KINDS: dict[str, Sequence[Any]] = {
    "unlimited": (),
    "gate": (Concurrency(100),),
    "keys_100": (Concurrency(20, key="shop"),),
    "keys_10000": (Concurrency(1, key="number"),),
    "rate": (Rate(1_000_000, per=1, burst=1_000_000),),
    "fair": (Fair("shop"),),
}
ROUNDS = 3


async def drain(limits: Sequence[Any], count: int) -> float:
    """Jobs a second, from the start of the app to the last job."""
    with tempfile.TemporaryDirectory() as directory:
        app = Jobify(storage=SQLiteStorage(Path(directory) / "jobs.db", **OPTIONS))
        begun, is_done = 0, asyncio.Event()

        @app.task(name="noop", limits=limits)
        async def noop(number: int, shop: int) -> None:
            nonlocal begun
            begun += 1
            if begun == count:
                is_done.set()

        async with app:  # its limits are stored
            pass
        app.enqueue_many(noop, [(number % 10_000, number % 100) for number in range(count)])
        app.close()
        gc.collect()
        started = time.perf_counter()
        async with app:
            await is_done.wait()
            return count / (time.perf_counter() - started)


async def drain_batches(count: int) -> float:
    """Jobs a second, as :func:`drain` has them, where one call of the function runs up to 500."""
    with tempfile.TemporaryDirectory() as directory:
        app = Jobify(storage=SQLiteStorage(Path(directory) / "jobs.db", **OPTIONS))
        begun, is_done = 0, asyncio.Event()

        @app.task(name="noop", batch=Batch(500))
        async def noop(calls: list[Call]) -> None:
            nonlocal begun
            begun += len(calls)
            if begun == count:
                is_done.set()

        app.enqueue_many(noop, [(number % 10_000, number % 100) for number in range(count)])
        app.close()
        gc.collect()
        started = time.perf_counter()
        async with app:
            await is_done.wait()
            return count / (time.perf_counter() - started)


async def handing_over(count: int) -> float:
    """Milliseconds from the end of a job to the start of the next one at a gate for one, at the median."""
    with tempfile.TemporaryDirectory() as directory:
        app = Jobify(storage=SQLiteStorage(Path(directory) / "jobs.db", **OPTIONS))
        times: list[float] = []

        @app.task(name="one", limits=[Concurrency(1)])
        async def one() -> None:
            times.append(time.perf_counter())
            await asyncio.sleep(0.002)
            times.append(time.perf_counter())

        async with app:
            await asyncio.gather(*[one.push() for _ in range(count)])
            await app.wait_all()
        return 1000 * statistics.median(
            later - earlier for earlier, later in zip(times[1:-1:2], times[2::2], strict=True)
        )


async def beside_waiting(waiting: int, count: int) -> float:
    """How much longer jobs of another task take while so many wait at a closed gate."""
    with tempfile.TemporaryDirectory() as directory:
        app = Jobify(storage=SQLiteStorage(Path(directory) / "jobs.db", **OPTIONS))

        @app.task(name="closed", limits=[Concurrency(0)])
        async def closed() -> None:
            pass

        done = asyncio.Semaphore(0)

        @app.task(name="free")
        async def free() -> None:
            done.release()

        async def drained() -> float:
            app.enqueue_many(free, [()] * count)
            started = time.perf_counter()
            for _ in range(count):
                await done.acquire()
            return time.perf_counter() - started

        async with app:
            before = [await drained() for _ in range(ROUNDS)]
            for start in range(0, waiting, 10_000):
                app.enqueue_many(closed, [()] * min(10_000, waiting - start))
            while app.limits()[0].waiting < waiting:  # noqa: ASYNC110 - a limit sends no event
                await asyncio.sleep(0.1)
            after = [await drained() for _ in range(ROUNDS)]
        return statistics.median(after) / statistics.median(before)


async def main(count: int) -> None:
    rates: dict[str, list[float]] = {kind: [] for kind in (*KINDS, "batch")}
    for _ in range(ROUNDS):
        for kind, limits in KINDS.items():
            rates[kind].append(await drain(limits, count))
        rates["batch"].append(await drain_batches(count))
    medians = {kind: statistics.median(values) for kind, values in rates.items()}
    shares = {f"{kind}_share": medians[kind] / medians["unlimited"] for kind in rates if kind != "unlimited"}
    report(
        per_second=medians["gate"],
        **shares,
        handing_over_ms=await handing_over(min(count, 500)),
        beside_waiting=await beside_waiting(count * 10, count),
    )


asyncio.run(main(argument(10_000)))
