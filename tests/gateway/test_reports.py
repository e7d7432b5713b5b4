"""What running jobs report, on its way to a storage that is slow, away, full, or does not take it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar

import pytest

from jobify.exceptions import ApplicationStateError, StorageUnavailableError, TaskCancelledError
from jobify.gateway import report_buffer, reports
from jobify.gateway.reports import Reporter, ReportStream
from jobify.model.records import MessageKind, Report
from jobify.testing.clock import FakeClock
from support import eventually

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
PROGRESS, VALUE, LOG = MessageKind.PROGRESS, MessageKind.VALUE, MessageKind.LOG


def nothing() -> None:
    pass


class Gate:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[Any], Callable[[Any], None]]] = []
        self.stored: list[Any] = []
        self.largest = 0

    def report(self, reports: Sequence[Report], answer: Callable[[Any], None]) -> None:
        self.asked.append(([report.data for report in reports], answer))
        self.largest = max(self.largest, len(reports))

    @property
    def waiting(self) -> list[list[Any]]:
        return [group for group, _ in self.asked]

    def accept(self) -> None:
        group, answer = self.asked.pop(0)
        self.stored += group
        answer([True] * len(group))

    def answer(self, what: Any) -> None:
        _, answer = self.asked.pop(0)
        answer(what)

    async def accept_all(self) -> None:
        """Take what is there, and what comes after it, until nothing more comes."""
        while self.asked:
            self.accept()
            await asyncio.sleep(0)
            await asyncio.sleep(0)


def is_full(attempt: Attempt) -> bool:
    """Whether a thread that reports has to wait."""
    return attempt.reports is not None and attempt.reports._buffer.weight == report_buffer._HIGH_WATER


class Attempt:
    id, number, task_name, queue_name = "the-job", 1, "talk", "default"
    metadata: ClassVar[dict[str, Any]] = {}
    timeout: float | None = None
    deadline: float | None = None
    reports: ReportStream | None = None
    reason: str | None = None

    def __init__(self, gate: Any) -> None:
        self._reporter = Reporter(gate, FakeClock(NOON))
        self._reporter.start()

    batch = ()

    def stop_reason(self) -> str | None:
        return self.reason

    def encode(self, value: Any) -> Any:
        return value

    def report(self, kind: MessageKind, data: Any, level: str | None = None) -> None:
        self._reporter.stream_of(self, 7, 3).add(self, kind, data, level)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(reports, "_LONGEST_PAUSE", 0.002)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for ten reports in comfort, and for twenty at all."""
    monkeypatch.setattr(report_buffer, "_HIGH_WATER", 10 * report_buffer._ENVELOPE)
    monkeypatch.setattr(report_buffer, "_LIMIT", 20 * report_buffer._ENVELOPE)


async def test_a_report_names_the_claim_and_the_time() -> None:
    seen: list[Report] = []

    class Keeping(Gate):
        def report(self, reports: Sequence[Report], answer: Callable[[Any], None]) -> None:
            seen.extend(reports)

    Attempt(Keeping()).report(LOG, "hello", "warning")
    assert seen == [Report("the-job", 7, 3, LOG, FakeClock(NOON).now(), "hello", "warning")]


async def test_one_group_is_under_way_and_the_next_one_takes_what_was_said_meanwhile() -> None:
    gate = Gate()
    attempt = Attempt(gate)
    for number in range(250):
        attempt.report(VALUE, number)
    assert gate.waiting == [[0]]
    await gate.accept_all()
    assert gate.stored == list(range(250))
    assert gate.largest == 100


async def test_of_progress_only_the_newest_waits() -> None:
    gate = Gate()
    attempt = Attempt(gate)
    attempt.report(VALUE, "a")
    for percent in (1.0, 2.0, 3.0):
        attempt.report(PROGRESS, percent)
        attempt.report(VALUE, "b")
    await gate.accept_all()
    assert gate.stored == ["a", 3.0, "b", "b", "b"]


async def test_finish_calls_back_when_all_is_stored_and_takes_nothing_more() -> None:
    gate = Gate()
    attempt = Attempt(gate)
    done: list[str] = []
    attempt.report(VALUE, 1)
    attempt.report(VALUE, 2)
    assert attempt.reports is not None
    assert attempt.reports.finish(lambda: done.append("done"))
    attempt.report(VALUE, "too late")
    gate.accept()
    await eventually(lambda: gate.waiting == [[2]])
    assert done == []
    gate.accept()
    await eventually(lambda: done == ["done"])
    assert gate.stored == [1, 2]
    assert not attempt.reports.finish(lambda: done.append("again"))


@pytest.mark.usefixtures("impatient")
async def test_what_the_storage_cannot_take_now_is_sent_again_in_order() -> None:
    gate = Gate()
    attempt = Attempt(gate)
    for number in range(5):
        attempt.report(VALUE, number)
    attempt.report(PROGRESS, 10.0)
    gate.accept()
    await eventually(lambda: gate.asked)
    for _ in range(3):
        gate.answer(StorageUnavailableError("away"))
        attempt.report(PROGRESS, 20.0)
        await eventually(lambda: gate.asked)
    await gate.accept_all()
    assert gate.stored == [0, 20.0, 1, 2, 3, 4]


async def test_a_report_that_cannot_be_written_is_lost_alone(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    attempt = Attempt(gate)
    for word in ("first", "good", "bad", "fine", "also fine"):
        attempt.report(VALUE, word)
    gate.accept()
    while gate.stored[-1:] != ["also fine"]:
        await eventually(lambda: gate.asked)
        if "bad" in gate.waiting[0]:
            gate.answer(OverflowError("too large"))
        else:
            gate.accept()
    assert gate.stored == ["first", "good", "fine", "also fine"]
    assert "A report of job the-job cannot be stored and is lost: OverflowError('too large')" in caplog.text


@pytest.mark.parametrize(
    "answer", [[False], ApplicationStateError(operation="use the storage", reason="closed.", solution="-")]
)
async def test_a_claim_that_is_lost_ends_the_voice(answer: Any) -> None:
    gate = Gate()
    attempt = Attempt(gate)
    attempt.report(VALUE, 1)
    attempt.report(VALUE, 2)
    gate.answer(answer)
    attempt.report(VALUE, 3)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert gate.asked == []
    assert attempt.reports is not None
    assert not attempt.reports.finish(nothing)


@pytest.mark.usefixtures("impatient")
async def test_a_closed_voice_asks_no_more() -> None:
    gate = Gate()
    attempt = Attempt(gate)
    done: list[str] = []
    attempt.report(VALUE, 1)
    attempt.report(VALUE, 2)
    gate.answer(StorageUnavailableError("away"))
    assert attempt.reports is not None
    assert attempt.reports.finish(lambda: done.append("done"))
    attempt.reports.close()
    assert attempt.reports._timer is not None
    assert attempt.reports._timer.cancelled()

    other = Attempt(gate)
    other.report(VALUE, 3)
    assert other.reports is not None
    other.reports.close()
    gate.answer(StorageUnavailableError("still away"))
    assert other.reports._timer is None
    assert done == []


@pytest.mark.usefixtures("narrow")
async def test_on_the_event_loop_too_many_values_are_an_error_and_too_many_lines_are_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "jobify.engine"):
        gate = Gate()
        attempt = Attempt(gate)
        for number in range(20):
            attempt.report(VALUE, number)
        with pytest.raises(ApplicationStateError, match="Await something in between"):
            attempt.report(VALUE, "too much")
        attempt.report(LOG, "a line", "info")
        attempt.report(LOG, "another", "info")
        attempt.report(PROGRESS, 50.0)
        await gate.accept_all()
        attempt.report(VALUE, "fits again")
        await gate.accept_all()
        assert gate.stored == [0, 50.0, *range(1, 20), "fits again"]
    assert caplog.text.count("lines are dropped") == 1


def talk(attempt: Attempt) -> None:
    for number in range(100):
        attempt.report(VALUE, number)


@pytest.mark.slow
@pytest.mark.usefixtures("narrow")
async def test_a_thread_that_says_too_much_is_held_up() -> None:
    gate = Gate()
    attempt = Attempt(gate)
    talking = asyncio.create_task(asyncio.to_thread(talk, attempt))
    await eventually(partial(is_full, attempt))
    while not talking.done():
        if gate.asked:
            gate.accept()
        await asyncio.sleep(0)
    await gate.accept_all()
    assert gate.stored == list(range(100))
    assert gate.largest <= 10


@pytest.mark.slow
@pytest.mark.usefixtures("narrow")
async def test_a_blocked_thread_ends_with_a_stop_request_or_its_attempt() -> None:
    gate = Gate()
    stopped, over = Attempt(gate), Attempt(gate)

    tasks = [asyncio.create_task(asyncio.to_thread(talk, attempt)) for attempt in (stopped, over)]
    for attempt in (stopped, over):
        await eventually(partial(is_full, attempt))
    stopped.reason = "shutdown"
    with pytest.raises(TaskCancelledError, match="shutdown"):
        await tasks[0]
    assert over.reports is not None
    over.reports.finish(nothing)
    await tasks[1]


@pytest.mark.usefixtures("narrow")
async def test_a_forwarder_of_reports_waits_for_room() -> None:
    gate = Gate()
    attempt = Attempt(gate)
    attempt.report(VALUE, 0)
    assert attempt.reports is not None
    assert attempt.reports.wait_for_room() is None
    for number in range(1, 10):
        attempt.report(VALUE, number)
    room = attempt.reports.wait_for_room()
    assert room is not None
    assert attempt.reports.wait_for_room() is room
    gate.accept()
    await room
    assert attempt.reports.wait_for_room() is None


async def test_several_threads_get_one_voice() -> None:
    gate = Gate()
    attempt = Attempt(gate)
    barrier = threading.Barrier(4)

    def talk() -> None:
        barrier.wait(20)
        for _ in range(50):
            attempt.report(VALUE, 1)

    talking = asyncio.gather(*(asyncio.to_thread(talk) for _ in range(4)))
    while not talking.done():
        await gate.accept_all()
        await asyncio.sleep(0)
    await gate.accept_all()
    assert len(gate.stored) == 200


async def test_a_report_after_the_event_loop_has_ended_is_nobodys() -> None:
    attempt = Attempt(Gate())
    thread = threading.Thread(target=attempt.report, args=(VALUE, 1))
    thread.start()
    thread.join(20)
    assert attempt.reports is not None


async def test_log_lines_are_in_the_log_of_the_process(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "jobify.jobs"):
        Attempt(Gate()).report(LOG, "100% done", "warning")
    (record,) = caplog.records
    assert (record.name, record.levelname, record.getMessage()) == (
        "jobify.jobs",
        "WARNING",
        "talk (the-job): 100% done",
    )
    assert (record.__dict__["job_id"], record.__dict__["task_name"]) == ("the-job", "talk")
