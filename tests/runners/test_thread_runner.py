"""Calls in threads, which cannot be stopped, only requested to stop and waited for."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from jobify.exceptions import ApplicationStateError, TaskExitError
from jobify.runners.base import FunctionCall
from jobify.runners.executor_thread import ExecutorThreadRunner
from jobify.runners.thread import ThreadRunner
from support import Program, eventually

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")


class Gate:
    """A task that says that it is inside, waits to be let go, and counts how many are inside at once."""

    def __init__(self) -> None:
        self.inside = threading.Event()
        self.let_go = threading.Event()
        self.runs = 0
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def __call__(self) -> str:
        with self._lock:
            self.runs += 1
            self._now += 1
            self.most = max(self.most, self._now)
        self.inside.set()
        assert self.let_go.wait(60)
        with self._lock:
            self._now -= 1
        return "done"

    async def entered(self) -> None:
        await asyncio.to_thread(self.inside.wait, 60)


@asynccontextmanager
async def started(
    slots: int = 2, executor: ThreadPoolExecutor | None = None
) -> AsyncIterator[ThreadRunner | ExecutorThreadRunner]:
    runner = ThreadRunner(slots=slots) if executor is None else ExecutorThreadRunner(executor)
    await runner.start()
    try:
        yield runner
    finally:
        await runner.stop()


async def test_a_call_runs_in_a_thread_of_ours_with_the_callers_context() -> None:
    def look() -> tuple[str, str]:
        return threading.current_thread().name, VARIABLE.get()

    async with started() as runner:
        VARIABLE.set("callers")
        name, value = await runner.run(FunctionCall(look))
        assert name.startswith("jobify")
        assert value == "callers"
        assert await runner.run(FunctionCall(int, ("12",), {"base": 3})) == 5


async def test_what_a_call_sets_stays_inside() -> None:
    async with started(slots=1) as runner:
        await runner.run(FunctionCall(VARIABLE.set, ("inner",)))
        assert VARIABLE.get() == "unset"
        assert await runner.run(FunctionCall(VARIABLE.get)) == "unset"


async def test_errors_come_with_their_frames() -> None:
    def fail() -> None:
        raise LookupError("no")

    async with started() as runner:
        with pytest.raises(LookupError, match="no") as caught:
            await runner.run(FunctionCall(fail))
        assert caught.traceback[-1].name == "fail"


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError(), StopIteration()]
)
async def test_no_error_gets_past_the_attempt(error: BaseException) -> None:
    def fail() -> None:
        raise error

    async with started(slots=1) as runner:
        with pytest.raises(TaskExitError) as caught:
            await runner.run(FunctionCall(fail))
        assert caught.value.__cause__ is error
        assert await runner.run(FunctionCall(len, ("abc",))) == 3


async def test_a_coroutine_that_a_function_hands_out_is_awaited() -> None:
    async def answer() -> int:
        return 42

    async with started() as runner:
        assert await runner.run(FunctionCall(lambda: answer())) == 42


async def test_an_interrupted_call_ends_at_once_and_keeps_its_slot_until_the_function_ends() -> None:
    gate = Gate()

    async with started() as runner:
        call = FunctionCall(gate)
        running = asyncio.create_task(runner.run(call))
        await gate.entered()
        running.cancel()
        await asyncio.wait([running])
        assert call.is_stop_requested
        assert call.is_running
        gate.let_go.set()
        await call.ended()
        assert not call.is_running


async def test_attempts_that_wait_for_the_end_never_overlap() -> None:
    """B20, T3: whatever times out, the next attempt begins when the last one is really over."""

    async def attempt(runner: ThreadRunner, gate: Gate) -> None:
        call = FunctionCall(gate)
        running = asyncio.create_task(runner.run(call))
        gate.inside.clear()
        gate.let_go.clear()
        await gate.entered()
        running.cancel()
        await asyncio.wait([running])
        asyncio.get_running_loop().call_soon(gate.let_go.set)
        await call.ended()

    gate = Gate()
    async with started(slots=4) as runner:
        for _ in range(20):
            await attempt(runner, gate)
    assert (gate.runs, gate.most) == (20, 1)


async def test_a_function_can_end_early_when_it_is_told_to_stop() -> None:
    async with started() as runner:
        pause = threading.Event()

        def work() -> None:
            while not call.is_stop_requested:
                pause.wait(0.001)

        call = FunctionCall(work)
        running = asyncio.create_task(runner.run(call))
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
        await call.ended()
        assert running.cancelled()


async def test_a_call_that_is_interrupted_before_its_turn_never_begins() -> None:
    gate, ran = Gate(), threading.Event()

    async with started(slots=1) as runner:
        first = asyncio.create_task(runner.run(FunctionCall(gate)))
        await gate.entered()
        call = FunctionCall(ran.set)
        second = asyncio.create_task(runner.run(call))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
        await call.ended()
        gate.let_go.set()
        assert await first == "done"
        assert await runner.run(FunctionCall(len, ("ab",))) == 2
    assert not ran.is_set()


async def test_stopping_takes_back_tells_reports_and_does_not_wait(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()

    runner = ThreadRunner(slots=1)
    await runner.start()
    running, queued = FunctionCall(gate), FunctionCall(gate)
    tasks = [asyncio.create_task(runner.run(call)) for call in (running, queued)]
    await gate.entered()
    with caplog.at_level(logging.WARNING, logger="jobify.runners"):
        await runner.stop()
    assert running.is_stop_requested
    assert running.is_running
    assert "still running" in caplog.text
    with pytest.raises(ApplicationStateError, match="shut down first"):
        await tasks[1]
    assert not queued.is_running
    gate.let_go.set()
    assert await tasks[0] == "done"
    await runner.stop()
    assert gate.runs == 1


def test_a_function_that_outlives_its_loop_disturbs_nobody() -> None:
    gate = Gate()
    runner = ThreadRunner(slots=1)

    async def first() -> None:
        await runner.start()
        running = asyncio.create_task(runner.run(FunctionCall(gate)))
        await gate.entered()
        running.cancel()
        await asyncio.wait([running])
        await runner.stop()

    async def second() -> None:
        await runner.start()
        assert await runner.run(FunctionCall(len, ("abc",))) == 3
        await runner.stop()

    asyncio.run(first())
    asyncio.run(second())
    gate.let_go.set()
    asyncio.run(second())


async def test_starting_twice_keeps_the_threads() -> None:
    async with started(slots=1) as runner:
        before = await runner.run(FunctionCall(threading.get_ident))
        await runner.start()
        assert await runner.run(FunctionCall(threading.get_ident)) == before


async def test_nothing_runs_while_it_is_not_started() -> None:
    runner = ThreadRunner()
    assert runner.slots >= 5
    with pytest.raises(ApplicationStateError, match="not started"):
        await runner.run(FunctionCall(len, ("",)))
    await runner.stop()


def test_the_users_executor_is_used_and_left_alone() -> None:
    async def main(executor: ThreadPoolExecutor) -> None:
        async with started(executor=executor) as runner:
            assert runner.slots == 3
            assert (await runner.run(FunctionCall(threading.current_thread))).name.startswith("mine")

    with ThreadPoolExecutor(3, thread_name_prefix="mine") as executor:
        asyncio.run(main(executor))
        asyncio.run(main(executor))
        assert executor.submit(len, "ab").result() == 2


async def test_an_executor_that_the_user_shut_down_is_named() -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    async with started(executor=executor) as runner:
        with pytest.raises(ApplicationStateError, match="cannot schedule new futures after shutdown"):
            await runner.run(FunctionCall(len, ("",)))


async def test_an_executor_whose_threads_cannot_begin_fails_the_call(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError("no initializer")

    with ThreadPoolExecutor(1, initializer=fail) as executor:
        async with started(executor=executor) as runner:
            call = FunctionCall(len, ("",))
            with pytest.raises((BrokenExecutor, ApplicationStateError)):
                await runner.run(call)
            assert not call.is_running


async def test_a_call_that_was_refused_does_not_run_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool that can start no further thread has queued the work before it says so."""
    gate, ran = Gate(), threading.Event()

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with started(slots=2) as runner:
        first = asyncio.create_task(runner.run(FunctionCall(gate)))
        await gate.entered()
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            with pytest.raises(ApplicationStateError, match="can't start new thread"):
                await runner.run(FunctionCall(ran.set))
        gate.let_go.set()
        await first
        assert await runner.run(FunctionCall(len, ("ab",))) == 2
    assert not ran.is_set()


@pytest.mark.promise("f5")
@pytest.mark.parametrize("is_failing", [False, True])
async def test_a_call_that_another_thread_has_taken_is_not_refused(
    monkeypatch: pytest.MonkeyPatch, is_failing: bool
) -> None:
    """The pool cannot start a thread, and one that has become free meanwhile takes the call before the pool says so."""
    gate, begun, may_end, runs = Gate(), threading.Event(), threading.Event(), []

    def take() -> str:
        runs.append(1)
        begun.set()
        assert may_end.wait(60)
        if is_failing:
            raise LookupError("here")
        return "taken"

    def refuse(self: threading.Thread) -> None:
        gate.let_go.set()
        assert begun.wait(60)
        raise RuntimeError("can't start new thread")

    async with started(executor=ThreadPoolExecutor(2)) as runner:
        first = asyncio.create_task(runner.run(FunctionCall(gate)))
        await gate.entered()
        call = FunctionCall(take)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            second = asyncio.create_task(runner.run(call))
            await first
        assert call.is_running
        may_end.set()
        if is_failing:
            with pytest.raises(LookupError, match="here"):
                await second
        else:
            assert await second == "taken"
        assert call.refusal is None
        assert not call.is_running
    assert runs == [1]


async def test_many_calls_keep_apart() -> None:
    def square(value: int) -> int:
        return value * value

    async with started(slots=4) as runner:
        values = await asyncio.gather(*(runner.run(FunctionCall(square, (n,))) for n in range(500)))
        assert values == [n * n for n in range(500)]


async def test_interruptions_at_any_moment_leave_nothing_behind() -> None:
    """Race the end of a call against its interruption, many times."""

    async def one(runner: ThreadRunner, func: Callable[[], Any], patience: int) -> None:
        call = FunctionCall(func)
        running = asyncio.create_task(runner.run(call))
        for _ in range(patience):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
        await call.ended()
        assert not call.is_running

    async with started(slots=2) as runner:
        await asyncio.gather(*(one(runner, lambda: None, n % 12) for n in range(600)))


# -- calls without a task ----------------------------------------------------------------------------------------------


class Ends:
    """The outcomes of submitted calls, in order."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[Any, BaseException | None]] = []

    def __call__(self, call: FunctionCall, value: Any, error: BaseException | None) -> None:
        assert not call.is_running
        self.outcomes.append((value, error))

    async def all(self, count: int) -> list[tuple[Any, BaseException | None]]:
        await eventually(lambda: len(self.outcomes) >= count)
        return self.outcomes


async def test_submitted_calls_run_in_order_with_their_context_and_duration() -> None:
    ends, begun, context = Ends(), [], contextvars.copy_context()
    context.run(VARIABLE.set, "given")
    runner = ThreadRunner(slots=1)
    await runner.start()
    calls = [FunctionCall(VARIABLE.get), FunctionCall(len, ("abc",)), FunctionCall(int, ("x",))]
    for call in calls:
        call.context, call.on_begin = context, begun.append
        runner.submit(call, ends)
        assert call.is_running
    outcomes = await ends.all(3)
    assert [value for value, _ in outcomes] == ["given", 3, None]
    assert isinstance(outcomes[2][1], ValueError)
    assert begun == calls
    assert all(call.seconds is not None for call in calls)
    assert not any(runner.withdraw(call) for call in calls)
    await runner.stop()


async def test_a_submitted_call_is_withdrawn_or_begins_never_both() -> None:
    """Race the thread for a call, many times."""
    ends, ran = Ends(), []
    runner = ThreadRunner(slots=2)
    await runner.start()
    withdrawn = 0
    for number in range(500):
        call = FunctionCall(ran.append, (number,))
        runner.submit(call, ends)
        for _ in range(number % 3):
            await asyncio.sleep(0)
        withdrawn += runner.withdraw(call)
    await ends.all(500 - withdrawn)
    assert len(ran) == len(ends.outcomes) == 500 - withdrawn
    await runner.stop()


async def test_the_outcome_of_an_interrupted_call_is_dropped() -> None:
    gate, ends = Gate(), Ends()
    runner = ThreadRunner(slots=1)
    await runner.start()
    call, last = FunctionCall(gate), FunctionCall(len, ("ab",))
    runner.submit(call, ends)
    runner.submit(last, ends)
    await gate.entered()
    assert not runner.withdraw(call)
    runner.interrupt(call)
    assert call.is_stop_requested
    assert call.is_running
    gate.let_go.set()
    await call.ended()
    assert await ends.all(1) == [(2, None)]
    runner.interrupt(call)
    await runner.stop()
    runner.interrupt(call)
    assert not runner.withdraw(call)


async def test_a_runner_that_is_not_started_says_so_to_a_submitted_call() -> None:
    ends = Ends()
    ThreadRunner(slots=1).submit(FunctionCall(len, ("",)), ends)
    ((_, error),) = await ends.all(1)
    assert "not started" in str(error)


async def test_a_refused_thread_is_the_outcome_of_a_submitted_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError(message)

    for message, has_refusal in (("can't start new thread", True), ("interpreter shutdown", False)):
        ends, runner, call = Ends(), ThreadRunner(slots=1), FunctionCall(len, ("",))
        await runner.start()
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            runner.submit(call, ends)
            runner.extend(1)
        ((_, error),) = await ends.all(1)
        assert message in str(error)
        assert (call.refusal is not None) is has_refusal
        assert not call.is_running
        await runner.stop()


async def test_one_thread_too_many_ends_before_it_takes_another_call(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, ends = Gate(), Gate(), Ends()
    runner = ThreadRunner(slots=1)
    await runner.start()
    runner.submit(FunctionCall(first), ends)
    runner.submit(FunctionCall(second), ends)
    await first.entered()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", _raise_memory_error)
        runner.extend(1)
        runner.extend(-1)
    runner.extend(1)
    await second.entered()
    later = Gate()
    for _ in range(3):
        runner.submit(FunctionCall(later), ends)
    runner.extend(-1)
    second.let_go.set()
    await ends.all(1)
    first.let_go.set()
    await later.entered()
    later.let_go.set()
    await ends.all(5)
    assert later.most == 1
    await runner.stop()


def _raise_memory_error(self: threading.Thread) -> None:
    raise MemoryError


async def test_stopping_ends_submitted_calls_that_have_not_begun(caplog: pytest.LogCaptureFixture) -> None:
    gate, ends = Gate(), Ends()
    runner = ThreadRunner(slots=1)
    await runner.start()
    running, waiting, withdrawn = FunctionCall(gate), FunctionCall(gate), FunctionCall(gate)
    for call in (running, waiting, withdrawn):
        runner.submit(call, ends)
    await gate.entered()
    assert runner.withdraw(withdrawn)
    await runner.stop()
    ((_, error),) = await ends.all(1)
    assert "shut down first" in str(error)
    unfinished = runner.unfinished()
    assert list(unfinished) == [running]
    assert runner.unfinished() == unfinished
    gate.let_go.set()
    await asyncio.wrap_future(unfinished[running])
    await ends.all(2)
    assert runner.unfinished() == {}
    assert gate.runs == 1


async def test_a_thread_that_was_one_too_many_ends_when_the_runner_stops() -> None:
    gates, ends, others = [Gate(), Gate()], Ends(), set(threading.enumerate())
    runner = ThreadRunner(slots=1)
    await runner.start()
    runner.extend(1)
    for gate in gates:
        runner.submit(FunctionCall(gate), ends)
        await gate.entered()
    runner.extend(-1)
    before = {thread for thread in threading.enumerate() if thread.name.startswith("jobify_")} - others
    await runner.stop()
    for gate in gates:
        gate.let_go.set()
    await ends.all(2)
    await eventually(lambda: not before.intersection(threading.enumerate()))


async def test_a_defect_of_one_callback_costs_no_other_outcome(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: Any) -> None:
        raise LookupError("a defect")

    ends = Ends()
    runner = ThreadRunner(slots=1)
    await runner.start()
    runner.submit(FunctionCall(len, ("a",)), fail)
    runner.submit(FunctionCall(len, ("ab",)), ends)
    assert await ends.all(1) == [(2, None)]
    assert "a defect" in caplog.text
    await runner.stop()


def test_a_runner_whose_loop_was_closed_starts_again_in_another_one() -> None:
    gate, runner = Gate(), ThreadRunner(slots=1)

    async def first() -> None:
        await runner.start()
        for _ in range(2):
            runner.submit(FunctionCall(gate), Ends())
        await gate.entered()

    async def second() -> None:
        await runner.start()
        assert await runner.run(FunctionCall(len, ("abc",))) == 3
        (future,) = runner.unfinished().values()
        gate.let_go.set()
        await asyncio.wrap_future(future)
        await runner.stop()

    asyncio.run(first())
    asyncio.run(second())
    assert gate.runs == 1


def test_the_interpreter_waits_for_functions_that_still_run(tmp_path: Path) -> None:
    program = Program(
        tmp_path,
        """
        import asyncio, atexit, time
        from jobify.runners.base import FunctionCall
        from jobify.runners.thread import ThreadRunner

        def work():
            print("begun", flush=True)
            time.sleep(0.2)
            print("done", flush=True)

        async def main():
            runner = ThreadRunner(slots=2)
            await runner.start()
            runner.submit(FunctionCall(work), lambda *_: None)

        atexit.register(print, "exit", flush=True)
        asyncio.run(main())
        """,
    )
    assert program.finish().split() == ["begun", "done", "exit"]
