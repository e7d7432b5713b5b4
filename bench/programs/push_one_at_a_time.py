"""Push a job, await its result, then push the next: the latency that a single caller sees, in milliseconds."""

from __future__ import annotations

import asyncio
import time

from common import argument, make_app, percentile, report

app = make_app()


@app.task(name="noop")
async def noop(number: int) -> int:
    return number


async def main(count: int) -> None:
    latencies: list[float] = []
    async with app:
        for number in range(count):
            started = time.perf_counter()
            job = await noop.push(number)
            await job
            latencies.append((time.perf_counter() - started) * 1000)
    report(p50_ms=percentile(latencies, 0.50), p99_ms=percentile(latencies, 0.99))


asyncio.run(main(argument(2_000)))
