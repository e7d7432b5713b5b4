"""Functions are called at their due time, never before, by the best timer there is."""

from __future__ import annotations

import asyncio
import resource
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from jobify.engine.execution import timers
from jobify.engine.execution.timers import DueTimer, TimerFd
from jobify.model.clock import SystemClock
from jobify.testing.clock import FakeClock
from jobify.types import Microseconds
from support import eventually

START = datetime(2030, 1, 1, tzinfo=UTC)
MILLISECOND = 1_000


class NoKernelTimer:
    def __init__(self) -> None:
        raise OSError("none here")


@pytest.fixture(params=["kernel", "loop", "deaf loop"])
def any_timer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What there may be to wait with: the kernel, or where it has no timer, or the loop cannot watch it, the loop."""
    if request.param == "loop":
        monkeypatch.setattr(timers, "TimerFd", NoKernelTimer)
    if request.param == "deaf loop":
        monkeypatch.setattr(asyncio.SelectorEventLoop, "add_reader", _no_readers)


def _no_readers(*_: Any) -> None:
    raise NotImplementedError


class Calls:
    """What was called, and by how much too early or late, in microseconds."""

    def __init__(self, clock: SystemClock) -> None:
        self._clock = clock
        self.names: list[str] = []
        self.late: list[int] = []

    def __call__(self, name: str, due_at: Microseconds) -> None:
        self.names.append(name)
        self.late.append(self._clock.now() - due_at)


@pytest.mark.usefixtures("any_timer")
async def test_functions_are_called_in_the_order_of_their_due_times_and_never_before() -> None:
    clock = SystemClock()
    calls, timer = Calls(clock), DueTimer(clock)
    now = clock.now()
    for name, after in (("c", 30), ("a", 5), ("d", 30), ("b", 10), ("past", -1)):
        due_at = now + after * MILLISECOND
        timer.call_at(due_at, lambda name=name, due_at=due_at: calls(name, due_at))
    await eventually(lambda: len(calls.names) == 5)
    timer.close()
    assert calls.names == ["past", "a", "b", "c", "d"]
    assert min(calls.late) >= 0


@pytest.mark.usefixtures("any_timer")
async def test_a_closed_alarm_calls_nothing_and_a_second_close_does_nothing() -> None:
    clock, calls = SystemClock(), list[str]()
    timer, other = DueTimer(clock), DueTimer(clock)
    timer.close()
    timer.call_at(clock.now() + 5 * MILLISECOND, lambda: calls.append("closed"))
    timer.close()
    timer.close()
    other.call_at(clock.now() + 10 * MILLISECOND, lambda: calls.append("open"))
    await eventually(lambda: calls)
    other.close()
    assert calls == ["open"]


async def test_one_that_raises_does_not_keep_the_others_from_being_called(caplog: pytest.LogCaptureFixture) -> None:
    clock, calls = SystemClock(), list[str]()
    timer = DueTimer(clock)
    timer.call_at(clock.now() + MILLISECOND, lambda: 1 // 0)
    timer.call_at(clock.now() + MILLISECOND, lambda: calls.append("next"))
    await eventually(lambda: calls)
    timer.close()
    assert "ZeroDivisionError" in caplog.text


async def test_a_wall_clock_that_is_being_slowed_down_is_waited_for() -> None:
    clock, calls = FakeClock(START), list[Microseconds]()
    timer, due_at = DueTimer(clock), clock.now() + MILLISECOND
    timer.call_at(due_at, lambda: calls.append(clock.now()))
    waited_until = time.monotonic() + 0.01
    await eventually(lambda: time.monotonic() > waited_until)
    assert calls == []
    clock.advance(0.001)
    await eventually(lambda: calls)
    timer.close()
    assert calls == [due_at]


async def test_a_wall_clock_that_was_set_back_holds_nothing_up() -> None:
    clock, calls = FakeClock(START), list[Microseconds]()
    timer = DueTimer(clock)
    timer.call_at(clock.now() + MILLISECOND, lambda: calls.append(clock.now()))
    clock.set(START.replace(year=2029))
    await eventually(lambda: calls)
    timer.close()


async def test_an_alarm_may_be_closed_after_its_loop() -> None:
    clock = SystemClock()
    timer = DueTimer(clock)
    timer.call_at(clock.now() + 60_000 * MILLISECOND, lambda: None)
    timer.close()


# -- the kernel's ------------------------------------------------------------------------------------------------------


async def test_a_kernel_timer_fires_once_for_each_time_that_it_is_set() -> None:
    timer = TimerFd()
    assert not timer.acknowledge()
    for delay in (0.0, -1.0, 0.001):
        timer.set(delay)
        await eventually(timer.acknowledge)
        assert not timer.acknowledge()
    timer.close()
    timer.close()


def test_a_kernel_timer_that_cannot_be_made_or_set_says_why() -> None:
    timer = TimerFd()
    timer.close()
    with pytest.raises(OSError, match="Cannot set a timer: Bad file descriptor"):
        timer.set(1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(OSError, match="Cannot make a timer: Too many open files"):
            TimerFd()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_system_without_them_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    timers._libc.cache_clear()
    monkeypatch.setattr(timers.sys, "platform", "darwin")
    with pytest.raises(OSError, match="no timers that are files"):
        TimerFd()
