"""Start an app on a database full of future jobs: how long until it can work, how long the loop stood still, how much
memory that took.

The freeze and the memory are watched for a while after the start too, so that work put off until later counts as well.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from common import argument, make_app, report

SECONDS_AFTERWARDS = 2  # of running that are watched after the start; the command line may say otherwise
BEAT = 0.001  # seconds between two looks at the clock

app = make_app()


@app.task(name="noop")
async def noop(number: int) -> int:
    return number


def memory_mb(field: str) -> float:
    """A memory field of this process in MB: `VmRSS` now, `VmHWM` at its highest."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"the kernel does not tell {field}")


class Pulse:
    """Notices how long the event loop did not come round."""

    def __init__(self) -> None:
        self.longest_ms = 0.0

    async def beat(self) -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(BEAT)
            now = time.perf_counter()
            self.longest_ms = max(self.longest_ms, (now - last - BEAT) * 1000)
            last = now


async def main(seconds_after: int) -> None:
    pulse = Pulse()
    beating = asyncio.create_task(pulse.beat())
    await asyncio.sleep(0.05)
    before = memory_mb("VmRSS")
    started = time.perf_counter()
    await app.startup()
    seconds = time.perf_counter() - started
    await asyncio.sleep(seconds_after)
    report(seconds=seconds, freeze_ms=pulse.longest_ms, memory_mb=memory_mb("VmHWM") - before)
    beating.cancel()
    await app.shutdown()


asyncio.run(main(argument(SECONDS_AFTERWARDS)))
