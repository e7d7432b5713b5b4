"""Calls on the event loop itself."""

from __future__ import annotations

import asyncio

import pytest

from jobify.runners.base import FunctionCall, LoopRunner


class Doubler:
    async def __call__(self, value: int) -> int:
        return 2 * value


async def add(left: int, *, right: int) -> int:
    await asyncio.sleep(0)
    return left + right


async def fail() -> None:
    raise LookupError("no")


async def test_values_and_errors_come_as_they_are() -> None:
    runner = LoopRunner(slots=5)
    await runner.start()
    assert runner.slots == 5
    assert await runner.run(FunctionCall(add, (1,), {"right": 2})) == 3
    assert await runner.run(FunctionCall(Doubler(), (4,))) == 8
    assert await runner.run(FunctionCall(lambda: "plain")) == "plain"
    with pytest.raises(LookupError, match="no"):
        await runner.run(FunctionCall(fail))
    await runner.stop()


async def test_an_interruption_is_a_cancelled_error_inside() -> None:
    seen: list[str] = []

    async def task() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    call = FunctionCall(task)
    running = asyncio.create_task(LoopRunner(1).run(call))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not call.is_running
    assert seen == ["cancelled"]
