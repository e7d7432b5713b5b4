"""Short calls are sent to a child ahead of their turn: each is made once, and an end of the child costs one call."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import runner_tasks as tasks

from jobify.exceptions import ApplicationStateError, PayloadError, ProcessDiedError, ProcessStartError
from jobify.runners import childprocess, protocol
from jobify.runners.base import DirectRunner, FunctionCall
from jobify.runners.childprocess import Renewal
from jobify.runners.connection import ChildConnection
from jobify.runners.function_address import Address
from jobify.runners.pool import ChildPool, Durations
from jobify.runners.process import ProcessRunner
from jobify.runners.queued_call import AHEAD, QueuedCall
from probes import children_of, pool_of
from support import eventually, stop, stopped


class Bench:
    """A runner whose children know that ``act`` is short, and what has become of its calls."""

    def __init__(self, runner: ProcessRunner, path: Path) -> None:
        self.runner = runner
        self.path = path
        self.ends: list[tuple[int, Any, BaseException | None]] = []
        self.messages: asyncio.Queue[Any] = asyncio.Queue()
        self._ended = asyncio.Event()

    def submit(self, number: int, deed: str = "", argument: Any = None) -> FunctionCall:
        call = FunctionCall(tasks.act, (str(self.path), number, deed, argument), on_message=self.messages.put_nowait)
        self.runner.submit(call, self._on_end)
        return call

    def _on_end(self, call: FunctionCall, value: Any, error: BaseException | None) -> None:
        assert not call.is_running
        self.ends.append((call.args[1], value, error))
        self._ended.set()

    async def ended(self, count: int) -> None:
        while len(self.ends) < count:
            self._ended.clear()
            await asyncio.wait_for(self._ended.wait(), 60)

    async def pid(self) -> int:
        return int(await self.runner.run(FunctionCall(tasks.pid)))

    def made(self) -> list[int]:
        """The numbers of the calls that were made, in the order in which they were."""
        return [number for number, _ in self._lines()]

    def made_by(self) -> list[int]:
        """The process that has made each."""
        return [pid for _, pid in self._lines()]

    def _lines(self) -> list[tuple[int, int]]:
        lines = self.path.read_text().splitlines()
        return [(int(number), int(pid)) for number, pid in (line.split(":") for line in lines)]

    def forget(self) -> None:
        self.ends.clear()
        self.path.write_text("")


@asynccontextmanager
async def bench(
    path: Path, *, slots: int = 1, renewal: Renewal | None = None, is_checked: bool = False
) -> AsyncIterator[Bench]:
    """Unless it is checked for calls that take long, a child that the system does not run for a while keeps its
    calls."""
    runner = ProcessRunner(slots=slots, renewal=renewal)
    await runner.start()
    made = Bench(runner, path / "made")
    try:
        for number in range(8):
            made.submit(number)
            await made.ended(number + 1)
        know(made)
        made.forget()
        if not is_checked:
            pool_of(runner)._check = asyncio.get_running_loop().call_later(1000, lambda: None)
        yield made
    finally:
        await runner.stop()


def know(made: Bench) -> None:
    """Have the pool take the function for a short one, however busy the machine is."""
    pool_of(made.runner)._durations._means[Address("runner_tasks", "act")] = 1000


def fifo(path: Path, name: str = "pipe") -> str:
    os.mkfifo(path / name)
    return str(path / name)


async def write(pipe: str) -> None:
    await asyncio.to_thread(Path(pipe).write_text, "go on")


async def test_calls_are_made_in_order_and_each_is_reported_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        assert isinstance(made.runner, DirectRunner)
        (child,) = children_of(made.runner)
        with stopped(await made.pid()):
            calls = [made.submit(number) for number in range(200)]
            assert len(child.sent.calls) > 20
            assert [number for number, call in enumerate(calls) if call.is_running] == [0]
        await made.ended(200)
        assert made.ends == [(number, number, None) for number in range(200)]
        assert made.made() == list(range(200))
        assert all(call.seconds is not None and call.seconds >= 0 for call in calls)
        assert child.sent.load == 0
        assert child.sent.began_at == 0


async def test_a_call_begins_when_the_one_before_it_has_ended(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        steps: list[tuple[str, int]] = []
        ended = asyncio.Event()

        def on_end(call: FunctionCall, _value: Any, _error: BaseException | None) -> None:
            steps.append(("end", call.tag))
            if call.tag == 4:
                ended.set()

        with stopped(await made.pid()):
            for number in range(5):
                call = FunctionCall(tasks.act, (str(made.path), number))
                call.tag, call.on_begin = number, lambda call: steps.append(("begin", call.tag))
                made.runner.submit(call, on_end)
        await ended.wait()
        assert steps == [(step, number) for number in range(5) for step in ("begin", "end")]


async def test_what_is_not_known_to_be_short_is_not_sent_ahead(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        (child,) = children_of(made.runner)
        with stopped(await made.pid()):
            for number in range(3):
                made.runner.submit(FunctionCall(tasks.add, (number,)), lambda *_: None)
            made.submit(4)
            assert len(child.sent.calls) == 1
        await made.ended(1)


def test_the_last_calls_of_a_function_say_how_long_the_next_takes() -> None:
    durations = Durations()
    call = QueuedCall(FunctionCall(tasks.add), lambda *_: None)
    assert durations.expected(call.address) == AHEAD
    for _ in range(50):
        durations.add(call, 1000)
    assert durations.expected(call.address) == 1000
    durations.add(call, 10 * AHEAD)
    assert durations.expected(call.address) > AHEAD


async def test_an_interruption_at_any_moment_costs_one_call(tmp_path: Path) -> None:
    """Each other call is made once and reported once; the one that is interrupted is made at most once."""
    chance = random.Random(12)
    async with bench(tmp_path, slots=2, is_checked=True) as made:
        for _ in range(250):
            know(made)
            made.forget()
            calls = [made.submit(number) for number in range(21)]
            victim = calls[chance.choice((0, 0, 0, 1, 2, 20))]
            for _ in range(chance.randrange(25)):
                await asyncio.sleep(0)
            has_ended = any(number == victim.args[1] for number, _, _ in made.ends)
            made.runner.interrupt(victim)
            await made.ended(20 + has_ended)
            await victim.ended()
            numbers = made.made()
            assert not [error for _, _, error in made.ends if error]
            assert [numbers.count(number) for number in range(21) if number != victim.args[1]] == [1] * 20
            assert numbers.count(victim.args[1]) <= 1
            assert len(made.ends) == 20 + has_ended
            assert all(number == value and error is None for number, value, error in made.ends)


async def test_only_the_call_at_work_is_killed(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        pid = await made.pid()
        with stopped(pid):
            calls = [made.submit(number, "hang" if number == 5 else "") for number in range(11)]
        assert await made.messages.get() == pid
        assert calls[5].is_running
        made.runner.interrupt(calls[5])
        await made.ended(10)
        await calls[5].ended()
        assert sorted(made.made()) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]
        assert set(made.made_by()[:5]) == {pid}
        assert pid not in made.made_by()[5:]


@pytest.mark.parametrize(
    ("deed", "argument", "code"),
    [("exit", 3, 3), ("signal", signal.SIGKILL, -9), ("signal", signal.SIGSEGV, -11)],
)
async def test_a_death_costs_the_call_at_work_and_no_other(tmp_path: Path, deed: str, argument: int, code: int) -> None:
    async with bench(tmp_path) as made:
        with stopped(await made.pid()):
            for number in range(30):
                made.submit(number, deed if number in (0, 10, 11) else "", argument)
        await made.ended(30)
        know(made)
        killers = [number for number, _, error in made.ends if error is not None]
        assert sorted(killers) == [0, 10, 11]
        errors = [error for _, _, error in made.ends if error is not None]
        assert [error.exit_code for error in errors if isinstance(error, ProcessDiedError)] == [code] * 3
        assert sorted(made.made()) == [number for number in range(30) if number not in (0, 10, 11)]


async def test_a_child_that_dies_before_it_begins_costs_no_call(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        pid = await made.pid()
        stop(pid)
        for number in range(10):
            made.submit(number)
        os.kill(pid, signal.SIGKILL)
        await made.ended(10)
        assert made.ends == [(number, number, None) for number in range(10)]
        assert made.made() == list(range(10))
        assert pid not in made.made_by()


async def test_a_timeout_in_front_of_others(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        with stopped(await made.pid()):
            heard: list[Any] = []
            slow = FunctionCall(tasks.act, (str(made.path), 0, "hang"), on_message=heard.append)
            running = asyncio.create_task(asyncio.wait_for(made.runner.run(slow), 0.01))
            await asyncio.sleep(0)
            for number in range(1, 6):
                made.submit(number)
        with pytest.raises(TimeoutError):
            await running
        await made.ended(5)
        await slow.ended()
        assert made.made() == [1, 2, 3, 4, 5]


async def test_a_child_that_has_made_enough_calls_has_no_more(tmp_path: Path) -> None:
    async with bench(tmp_path, renewal=Renewal(max_calls=5)) as made:
        for number in range(23):
            made.submit(number)
        await made.ended(23)
        assert made.made() == list(range(23))
        pids = made.made_by()
        assert max(pids.count(pid) for pid in pids) == 5


async def test_a_child_that_is_too_large_makes_no_further_call(tmp_path: Path) -> None:
    mebibyte = 1024 * 1024
    async with bench(tmp_path, renewal=Renewal(max_memory=200 * mebibyte)) as made:
        with stopped(await made.pid()):
            for number in range(12):
                made.submit(number, "grow" if number in (3, 7) else "", 250 * mebibyte)
        await made.ended(12)
        assert made.made() == list(range(12))
        pids = made.made_by()
        assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [4, 4, 4]


async def test_large_calls_between_small_ones(tmp_path: Path) -> None:
    """They are sent on the stream, alone."""
    async with bench(tmp_path) as made:
        for number in range(40):
            made.submit(number, "", bytes(100_000) if number % 7 == 3 else None)
        await made.ended(40)
        assert made.made() == list(range(40))
        assert [number for number, _, _ in made.ends] == list(range(40))
        (child,) = children_of(made.runner)
        with stopped(await made.pid()):
            large = made.submit(40, "", bytes(100_000))
            behind = made.submit(41)
            assert len(child.sent.calls) == 1
            assert not made.runner.withdraw(large)
            assert made.runner.withdraw(behind)
        await made.ended(41)


async def test_a_socket_that_is_full_is_no_obstacle(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        (child,) = children_of(made.runner)
        with stopped(await made.pid()):
            for number in range(100):
                made.submit(number, "", bytes(30_000))
            assert 0 < len(child.sent.calls) < 100
        await made.ended(100)
        assert made.made() == list(range(100))


async def test_a_call_is_taken_back_until_it_begins(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        (child,) = children_of(made.runner)
        with stopped(await made.pid()):
            calls = [made.submit(number) for number in range(6)]
            for number in (0, 3):
                begun: list[FunctionCall] = []
                calls[number].on_begin = begun.append
                assert made.runner.withdraw(calls[number])
                assert not made.runner.withdraw(calls[number])
                assert not calls[number].is_running
            assert len(child.sent.calls) == 0
        await made.ended(4)
        assert made.made() == [1, 2, 4, 5]
        assert not made.runner.withdraw(calls[1])
        made.runner.interrupt(calls[1])
        waits = made.submit(6, "hang")
        await made.messages.get()
        assert not made.runner.withdraw(waits)
        assert waits.is_running
        made.runner.interrupt(waits)
        await waits.ended()


async def test_a_child_whose_only_call_was_taken_back_is_idle(tmp_path: Path) -> None:
    """It takes any call then, and not only a short one."""
    async with bench(tmp_path) as made:
        pid = await made.pid()
        with stopped(pid):
            assert made.runner.withdraw(made.submit(0))
        call = FunctionCall(tasks.environment)
        assert (await made.runner.run(call))["is_leader"]
        assert await made.pid() == pid


async def test_a_stop_returns_what_has_not_begun(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        pid = await made.pid()
        with stopped(pid):
            calls = [made.submit(number) for number in range(6)]
            stopping = asyncio.create_task(made.runner.stop())
            await made.ended(6)
            assert all(isinstance(error, ApplicationStateError) for _, _, error in made.ends)
            assert not any(call.is_running for call in calls)
        await stopping
        made.submit(6)
        await made.ended(7)
        assert isinstance(made.ends[-1][2], ApplicationStateError)
        assert not made.path.read_text()


async def test_what_waits_behind_a_long_call_goes_to_an_idle_child(tmp_path: Path) -> None:
    pipes = [fifo(tmp_path, name) for name in ("first", "second")]
    async with bench(tmp_path, slots=2, is_checked=True) as made:
        blockers = [made.submit(number, "wait", pipe) for number, pipe in enumerate(pipes)]
        await eventually(lambda: all(call.is_running for call in blockers))
        know(made)
        short = made.submit(2)
        await eventually(lambda: short.queued.holder is None)  # it was taken back from behind the long one
        assert not short.is_running
        await write(pipes[1])
        await made.ended(2)
        assert sorted(number for number, _, _ in made.ends) == [1, 2]
        assert blockers[0].is_running
        await write(pipes[0])
        await made.ended(3)


async def test_a_child_that_is_idle_takes_over(tmp_path: Path) -> None:
    pipe = fifo(tmp_path)
    async with bench(tmp_path, slots=2) as made:
        pids = set()
        while len(pids) < 2:
            pids = set(await asyncio.gather(made.pid(), made.pid()))
        with stopped(*pids):
            know(made)
            made.submit(0, "wait", pipe)
            for number in range(1, 20):
                made.submit(number)
        await made.ended(19)
        assert sorted(number for number, _, _ in made.ends) == list(range(1, 20))
        await write(pipe)
        await made.ended(20)


async def test_a_job_that_waits_for_one_behind_it_gets_another_child(tmp_path: Path) -> None:
    """Its slot is lent, and the new child takes what waits."""
    pipe = fifo(tmp_path)
    async with bench(tmp_path) as made:
        with stopped(await made.pid()):
            made.submit(0, "wait", pipe)
            made.submit(1)
        await made.messages.get()
        made.runner.extend(1)
        await made.ended(1)
        assert [number for number, _, _ in made.ends] == [1]
        made.runner.extend(-1)
        await write(pipe)
        await made.ended(2)
        await eventually(lambda: len(children_of(made.runner)) == 1)


async def test_a_fork_in_a_task_takes_no_call(tmp_path: Path) -> None:
    pipe = fifo(tmp_path)
    async with bench(tmp_path) as made:
        with stopped(await made.pid()):
            for number in range(20):
                made.submit(number, "fork" if number == 4 else "", pipe)
        await made.ended(20)
        assert made.made() == list(range(20))
        for number in range(20, 30):
            made.submit(number)
        await made.ended(30)
        await write(pipe)


async def test_what_an_earlier_call_has_started_outlives_a_later_one(tmp_path: Path) -> None:
    """Also if its reply was not read yet when the later one died: the child says when each call has ended."""
    async with bench(tmp_path) as made:
        with stopped(await made.pid()):
            made.submit(0, "spawn")
            for number in range(1, 5):
                made.submit(number)
            made.submit(5, "signal", signal.SIGKILL)
        await made.ended(6)
        daemon = await made.messages.get()
        try:
            await made.pid()
            os.kill(daemon, 0)
        finally:
            os.kill(daemon, signal.SIGKILL)


async def test_levels_that_change_are_sent_again_if_they_were_taken_back(tmp_path: Path) -> None:
    logger = logging.getLogger("tests.sent_ahead")
    async with bench(tmp_path) as made:
        (child,) = children_of(made.runner)
        try:
            with stopped(await made.pid()):
                made.submit(0)
                logger.setLevel(logging.DEBUG)
                last = made.submit(1)
                assert len(child.sent.calls) == 3
                assert made.runner.withdraw(last)
                assert child.sent.levels is None
            await made.ended(1)
            level = await made.runner.run(FunctionCall(tasks.level_of, (logger.name,)))
            assert level == logging.DEBUG
        finally:
            logger.setLevel(logging.NOTSET)


async def test_a_child_that_takes_no_request_is_replaced(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        pid = await made.pid()
        (child,) = children_of(made.runner)
        child._packets._sender.close()
        made.submit(0)
        await made.ended(1)
        assert made.ends == [(0, 0, None)]
        assert made.made_by() != [pid]


async def test_an_error_in_the_code_that_hears_of_an_end_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no ears")

    async with bench(tmp_path) as made:
        made.runner.submit(FunctionCall(tasks.act, (str(made.path), 0)), fail)
        made.submit(1)
        await made.ended(1)
        assert made.made() == [0, 1]
    assert "could not be handled" in caplog.text


async def test_a_message_that_is_handled_slowly_holds_up_what_follows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with bench(tmp_path) as made:
        step: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        talks = FunctionCall(tasks.tell_all, ([1],), on_message=lambda _: step)
        ends: list[Any] = []
        with stopped(await made.pid()):
            made.runner.submit(talks, lambda call, value, error: ends.append((value, error)))
            made.submit(0)
        await eventually(lambda: children_of(made.runner) and next(iter(children_of(made.runner)))._waiting is not None)
        assert (ends, made.ends) == ([], [])
        step.set_exception(RuntimeError("lost"))
        await made.ended(1)
        assert ends == [(1, None)]
        assert "message from a child process was lost" in caplog.text

        hangs = FunctionCall(tasks.tell_and_hang, on_message=lambda _: asyncio.get_running_loop().create_future())
        made.runner.submit(hangs, lambda *_: None)
        (child,) = children_of(made.runner)
        await eventually(lambda: child._waiting is not None)
        made.runner.interrupt(hangs)
        await hangs.ended()


async def test_a_stop_reports_a_large_call_that_has_not_begun(tmp_path: Path) -> None:
    """It cannot be taken back from a child that lives."""
    async with bench(tmp_path) as made:
        stop(await made.pid())
        made.submit(0, "", bytes(100_000))
        await made.runner.stop()
        await made.ended(1)
        assert isinstance(made.ends[0][2], ApplicationStateError)
        assert not made.path.read_text()


async def test_calls_that_wait_behind_another_one_start_a_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        refusals.append(1)
        raise OSError(11, "Resource temporarily unavailable")

    refusals: list[int] = []
    async with bench(tmp_path) as made:
        with stopped(await made.pid()):
            made.submit(0)
            made.submit(1)
            with monkeypatch.context() as patched:
                patched.setattr(childprocess, "_launch", refuse)
                made.runner.extend(1)
                made.runner.extend(0)  # no call has failed for it, so it is not tried again at once
                assert len(refusals) == 1
                assert made.ends == []
            pool_of(made.runner)._refused_until = 0
            made.runner.extend(0)
            await made.ended(1)
        await made.ended(2)
        assert [error for _, _, error in made.ends] == [None, None]


async def test_a_child_without_room_for_the_first_request_is_replaced(tmp_path: Path) -> None:
    logger = logging.getLogger("tests.sent_ahead")
    async with bench(tmp_path) as made:
        pid = await made.pid()
        (child,) = children_of(made.runner)
        child._packets.send = lambda _: False
        try:
            logger.setLevel(logging.DEBUG)
            made.submit(0)
            await made.ended(1)
        finally:
            logger.setLevel(logging.NOTSET)
        assert made.ends == [(0, 0, None)]
        assert made.made_by() != [pid]


async def test_a_call_that_ends_while_its_task_is_cancelled(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        with stopped(await made.pid()):
            call = FunctionCall(tasks.act, (str(made.path), 0))
            running = asyncio.create_task(made.runner.run(call))
            await asyncio.sleep(0)
            running.cancel()
            call.queued._on_end(call, 0, None)
            await asyncio.wait([running])
        assert running.cancelled()


async def test_a_child_that_is_dead_before_it_is_prepared() -> None:
    child = childprocess.ChildProcess("early")
    child.kill()
    await asyncio.wait_for(asyncio.shield(child.dead), 60)
    with pytest.raises(ProcessStartError):
        await child.prepare("runner_tasks")
    pool = ChildPool(1)
    start: asyncio.Task[None] = asyncio.create_task(asyncio.sleep(0))
    await start
    pool._on_start(child, start)
    assert not pool._ready


async def test_a_connection_that_is_closed_while_it_is_opened() -> None:
    ours, theirs = socket.socketpair()
    connection = ChildConnection(ours, lambda: None)
    opening = asyncio.create_task(connection.open())
    await asyncio.sleep(0)
    connection.close()
    await opening
    connection.send(b"to nobody")
    await eventually(lambda: ours.fileno() == -1)
    theirs.close()


async def test_an_answer_that_nothing_waits_for_is_dropped(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        (child,) = children_of(made.runner)
        child._handle_other(protocol.READY)
        QueuedCall.internal(b"").fail(RuntimeError())
        made.submit(0)
        await made.ended(1)
    made.runner.extend(1)
    assert made.ends == [(0, 0, None)]


async def test_what_cannot_be_sent_is_reported_later(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        call = FunctionCall(tasks.add, (lambda: None,))
        ends: list[Any] = []
        made.runner.submit(call, lambda *end: ends.append(end))
        assert ends == []
        await eventually(lambda: ends)
        assert isinstance(ends[0][2], PayloadError)
        assert not made.runner.withdraw(call)
