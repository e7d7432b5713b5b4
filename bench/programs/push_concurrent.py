"""Push many jobs at once and await every result: the throughput of push -> run -> stored outcome."""

from __future__ import annotations

import asyncio
import time

from common import argument, make_app, report

app = make_app()


@app.task(name="noop")
async def noop(number: int) -> int:
    return number


async def main(count: int) -> None:
    async with app:
        started = time.perf_counter()
        jobs = await asyncio.gather(*(noop.push(number) for number in range(count)))
        pushed = time.perf_counter()
        results = await asyncio.gather(*jobs)
        finished = time.perf_counter()
    if results != list(range(count)):
        raise SystemExit("a job returned the wrong result")
    report(push_per_second=count / (pushed - started), per_second=count / (finished - started))


asyncio.run(main(argument(10_000)))
