"""Schedule jobs one millisecond apart and note when each really starts: the lateness of timers, in milliseconds."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

from common import argument, make_app, percentile, report

PER_SECOND = 1_000
LEAD_PER_JOB = 0.001  # seconds given to scheduling each job before the first is due

app = make_app()
lateness: list[float] = []


@app.task(name="note")
async def note(due: float) -> None:
    lateness.append((time.time() - due) * 1000)


async def main(count: int) -> None:
    async with app:
        first = time.time() + 1 + count * LEAD_PER_JOB
        dues = [first + number / PER_SECOND for number in range(count)]
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        jobs = await asyncio.gather(*(note.schedule(due).at(epoch + timedelta(seconds=due)) for due in dues))
        if time.time() > first:
            raise SystemExit("this machine is too slow to schedule them before the first is due")
        await asyncio.gather(*jobs)
    report(p50_ms=percentile(lateness, 0.50), p99_ms=percentile(lateness, 0.99), max_ms=max(lateness))


asyncio.run(main(argument(5_000)))
