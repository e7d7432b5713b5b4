"""Not measured: leaves a database with many jobs for next month, as input for `start_with_schedule.py`."""

from __future__ import annotations

import asyncio

from common import argument, make_app

IN_A_MONTH = 30 * 86_400
AT_ONCE = 5_000

app = make_app()


@app.task(name="noop")
async def noop(number: int) -> int:
    return number


async def main(count: int) -> None:
    async with app:
        for first in range(0, count, AT_ONCE):
            numbers = range(first, min(first + AT_ONCE, count))
            await asyncio.gather(*(noop.schedule(number).delay(IN_A_MONTH + number) for number in numbers))


asyncio.run(main(argument(200_000)))
