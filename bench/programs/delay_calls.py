"""Schedule jobs for the far future, all at once and then one by one: how fast a durable `.delay()` is acknowledged."""

from __future__ import annotations

import asyncio
import time

from common import argument, make_app, report

IN_A_DAY = 86_400.0

app = make_app()


@app.task(name="noop")
async def noop(number: int) -> int:
    return number


async def concurrent(count: int) -> float:
    started = time.perf_counter()
    await asyncio.gather(*(noop.schedule(number).delay(IN_A_DAY) for number in range(count)))
    return count / (time.perf_counter() - started)


async def sequential(count: int) -> float:
    started = time.perf_counter()
    for number in range(count):
        await noop.schedule(number).delay(IN_A_DAY)
    return count / (time.perf_counter() - started)


async def main(count: int) -> None:
    async with app:
        report(concurrent_per_second=await concurrent(count), sequential_per_second=await sequential(count // 5))


asyncio.run(main(argument(10_000)))
