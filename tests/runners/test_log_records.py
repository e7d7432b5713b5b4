"""What child processes log is handled by their parent."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import logging_tasks as tasks
import pytest

from jobify.exceptions import ProcessDiedError
from jobify.runners import log_sending
from jobify.runners.base import FunctionCall
from jobify.runners.job_info import JobInfo
from jobify.runners.log_channel import (
    current_levels,
    decode_record,
    encode_record,
    handle_record,
    make_record,
    open_channel,
)
from jobify.runners.log_sending import Forwarder
from jobify.runners.process import ProcessRunner
from support import eventually, run

pytestmark = pytest.mark.promise("f9")


class Heard(logging.Handler):
    """Keeps records with their text, as a handler of the app would write it."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))
        self.records.append(record)

    def of(self, logger: str) -> list[logging.LogRecord]:
        return [record for record in self.records if record.name == logger]


@pytest.fixture
def heard() -> Iterator[Heard]:
    handler, root = Heard(), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler
    root.removeHandler(handler)
    root.setLevel(before)


def job_info(id: str = "job-1", attempt: int = 2) -> JobInfo:
    return JobInfo(id, attempt, "fetch", "shelves", b"", None, None, b"")


def call_of(func: Any, *args: Any, id: str = "job-1") -> FunctionCall:
    return FunctionCall(func, args, job_info=job_info(id))


def perform(*calls: FunctionCall, slots: int = 1) -> list[Any]:
    """Make the calls, one after the other in the same child."""

    async def main() -> list[Any]:
        runner = ProcessRunner(slots=slots)
        await runner.start()
        try:
            return [await runner.run(call) for call in calls]
        finally:
            await runner.stop()

    return list(run(main()))


FIELDS = ("job_id", "task", "queue", "attempt")


def fields(record: logging.LogRecord) -> tuple[Any, ...]:
    return tuple(getattr(record, name, None) for name in FIELDS)


def log_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.endswith("-log")]


# -- through the parent's configuration --------------------------------------------------------------------------------


def test_a_record_of_a_child_has_its_job_and_goes_through_the_handlers_of_the_parent(heard: Heard) -> None:
    heard.setFormatter(logging.Formatter("%(levelname)s %(name)s %(job_id)s %(attempt)d %(message)s"))
    (pid,) = perform(call_of(tasks.say, "hello"))
    (record,) = heard.of("shop.tasks")
    assert fields(record) == ("job-1", "fetch", "shelves", 2)
    assert record.process == pid != os.getpid()
    assert (record.msg, record.args) == ("says %s", ("hello",))
    assert "INFO shop.tasks job-1 2 says hello" in heard.texts


async def test_records_are_handled_before_the_end_of_the_call_is_known(heard: Heard) -> None:
    counts = []

    runner = ProcessRunner(slots=1)
    await runner.start()
    for _ in range(20):
        await runner.run(call_of(tasks.say_much, 5))
        counts.append(len(heard.of("shop.tasks")))
    await runner.stop()
    assert counts == [5 * number for number in range(1, 21)]


def test_levels_of_the_parent_hold_in_the_child(heard: Heard) -> None:
    quiet = logging.getLogger("shop.quiet")
    quiet.setLevel(logging.ERROR)
    try:
        perform(
            call_of(tasks.say, "a", logging.DEBUG),
            call_of(tasks.say, "b", logging.WARNING, "shop.quiet"),
            call_of(tasks.say, "c", logging.ERROR, "shop.quiet.below"),
        )
    finally:
        quiet.setLevel(logging.NOTSET)
    assert [record.getMessage() for record in heard.records if record.name.startswith("shop")] == ["says c"]


async def test_a_change_of_levels_reaches_a_child_that_runs(heard: Heard) -> None:
    own, root = logging.getLogger("shop.tasks"), logging.getLogger()

    try:
        runner = ProcessRunner(slots=1)
        await runner.start()
        say = [(tasks.say, text, logging.DEBUG) for text in "abcde"]
        await runner.run(call_of(*say[0]))
        own.setLevel(logging.DEBUG)
        await runner.run(call_of(*say[1]))
        own.setLevel(logging.NOTSET)
        await runner.run(call_of(*say[2]))
        root.setLevel(logging.DEBUG)
        await runner.run(call_of(*say[3]))
        logging.disable(logging.CRITICAL)
        await runner.run(call_of(*say[4]))
        logging.disable(logging.NOTSET)
        await runner.stop()
    finally:
        own.setLevel(logging.NOTSET)
        logging.disable(logging.NOTSET)
    assert [record.getMessage() for record in heard.of("shop.tasks")] == ["says b", "says d"]


def test_levels_are_the_same_object_until_one_changes() -> None:
    logger = logging.getLogger("shop.levels")
    before = current_levels()
    assert current_levels() is before
    logger.setLevel(logging.ERROR)
    try:
        assert current_levels().loggers["shop.levels"] == logging.ERROR
    finally:
        logger.setLevel(logging.NOTSET)
    assert current_levels() == before


def test_a_logger_of_the_parent_that_does_not_propagate_keeps_its_handlers(heard: Heard) -> None:
    own, logger = Heard(), logging.getLogger("shop.apart")
    logger.addHandler(own)
    logger.propagate = False
    dropped = logging.getLogger("shop.disabled")
    dropped.disabled = True
    try:
        perform(
            call_of(tasks.say, "a", logging.INFO, "shop.apart"), call_of(tasks.say, "b", logging.INFO, "shop.disabled")
        )
    finally:
        logger.removeHandler(own)
        logger.propagate, dropped.disabled = True, False
    assert [record.getMessage() for record in own.records] == ["says a"]
    assert not [record for record in heard.records if record.name.startswith("shop")]


def test_filters_of_the_parents_loggers_hold(heard: Heard) -> None:
    logger = logging.getLogger("shop.filtered")

    def passes(record: logging.LogRecord) -> bool:
        record.tenant = "north"
        return "no" not in record.getMessage()

    logger.addFilter(passes)
    try:
        perform(*(call_of(tasks.say, text, logging.INFO, "shop.filtered") for text in ("yes", "no")))
    finally:
        logger.removeFilter(passes)
    (record,) = heard.of("shop.filtered")
    assert (record.getMessage(), record.tenant) == ("says yes", "north")  # type: ignore[attr-defined]


def test_a_logger_that_only_the_child_has_is_not_made_in_the_parent(heard: Heard) -> None:
    perform(call_of(tasks.say, "a", logging.INFO, "shop.of.one.job"))
    assert len(heard.of("shop.of.one.job")) == 1
    assert "shop.of.one.job" not in logging.Logger.manager.loggerDict


def test_handlers_that_a_module_adds_at_its_import_belong_to_the_parent(
    heard: Heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOGGING_TASKS_FILE", str(tmp_path / "log"))
    _, _, names = perform(
        call_of(tasks.say, "a"), call_of(tasks.say, "b", logging.INFO, "shop.private"), call_of(tasks.handlers)
    )
    assert [record.getMessage() for record in heard.records if record.name.startswith("shop")] == ["says a", "says b"]
    assert names == ["Forwarder", "Forwarder"]
    assert not (tmp_path / "log").read_text()
    assert "says" not in capfd.readouterr().err


def test_a_handler_of_a_task_works_beside(heard: Heard, tmp_path: Path) -> None:
    perform(call_of(tasks.say_with_own_handler, str(tmp_path / "log")))
    assert (tmp_path / "log").read_text() == "to a file as well\n"
    assert len(heard.of("shop.tasks")) == 1


def test_a_task_that_configures_logging_does_so_until_it_ends(heard: Heard, tmp_path: Path) -> None:
    perform(call_of(tasks.reconfigure, str(tmp_path / "log")), call_of(tasks.say, "again"))
    assert [record.getMessage() for record in heard.of("shop.tasks")] == ["says again"]


def test_captured_warnings_are_captured_in_the_child_too(heard: Heard) -> None:
    logging.captureWarnings(True)
    try:
        perform(call_of(tasks.warn))
    finally:
        logging.captureWarnings(False)
    (record,) = heard.of("py.warnings")
    assert "an old function" in record.getMessage()


# -- what a record carries ---------------------------------------------------------------------------------------------


def test_records_of_all_kinds_arrive(heard: Heard) -> None:
    logging.addLevelName(25, "NOTICE")
    perform(call_of(tasks.say_all_kinds))
    plain, custom, large, error, wordless, stack, notice = heard.of("shop.tasks")
    assert plain.getMessage() == "plain text 7"
    assert (plain.order, plain.task) == ({"id": 3, "lines": [1, 2]}, "of the user")  # type: ignore[attr-defined]
    assert (custom.getMessage(), custom.thing) == ("object a custom text", "a custom text")  # type: ignore[attr-defined]
    assert large.getMessage().startswith("large xxxx")
    assert len(large.getMessage()) < 5_000
    assert large.job_id == "job-1"  # type: ignore[attr-defined]
    assert error.exc_info is not None
    assert error.exc_info[0] is KeyError
    assert "logging_tasks.py" in logging.Formatter().format(error)
    assert "Wordless" in logging.Formatter().format(wordless)
    assert "say_all_kinds" in (stack.stack_info or "")
    assert notice.levelname == "NOTICE"


def test_a_record_of_any_size_fits() -> None:
    for size in (0, 100, 10_000, 1_000_000):
        for text in ("x", "\U0001f600", "\udc80"):
            record = logging.LogRecord("a" * 50, logging.INFO, "p", 1, text * size, (), None, None, "s" * size)
            record.huge = {"deep": text * size}
            payload = encode_record(record, {"job_id": "1"}, 50_000)
            assert len(payload) <= 50_000
            assert make_record(decode_record(payload)).name == "a" * 50


def test_threads_of_the_call_have_its_job_and_older_ones_have_none(heard: Heard) -> None:
    perform(call_of(tasks.say_from_threads, id="a"), call_of(tasks.say_from_threads, id="b"))
    ids = [(record.getMessage(), fields(record)[0]) for record in heard.of("shop.tasks")]
    assert ids == [("from a thread", "a"), ("from a pool", "a"), ("from a thread", "b"), ("from a pool", None)]


def test_a_fork_of_the_child_logs_through_the_same_parent(heard: Heard) -> None:
    perform(call_of(tasks.say_from_fork), call_of(tasks.say, "after it"))
    assert [(record.getMessage(), fields(record)[0]) for record in heard.of("shop.tasks")] == [
        ("from a fork", "job-1"),
        ("says after it", "job-1"),
    ]


def test_a_signal_handler_may_log_in_the_middle_of_logging(heard: Heard) -> None:
    perform(call_of(tasks.say_from_handler))
    texts = [record.getMessage() for record in heard.of("shop.tasks")]
    assert [text for text in texts if text.startswith("line")] == [f"line {number}" for number in range(2_000)]
    assert "from a signal handler" in texts


def test_a_message_that_cannot_be_formatted_costs_nothing_else(heard: Heard, capfd: pytest.CaptureFixture[str]) -> None:
    done, _ = perform(call_of(tasks.say_with_wrong_arguments), call_of(tasks.say, "next"))
    assert done == "done"
    assert "says next" in [record.getMessage() for record in heard.of("shop.tasks") if record.args == ("next",)]


# -- ends --------------------------------------------------------------------------------------------------------------


def test_what_a_killed_child_wrote_before_is_handled_before_its_death_is_known(heard: Heard) -> None:
    with pytest.raises(ProcessDiedError):
        perform(call_of(tasks.say_and_die, 500))
    assert [record.getMessage() for record in heard.of("shop.tasks")] == [f"line {number}" for number in range(500)]


def test_what_a_crashed_child_wrote_last_is_there(heard: Heard) -> None:
    with pytest.raises(ProcessDiedError):
        perform(call_of(tasks.say_and_crash))
    assert [record.getMessage() for record in heard.of("shop.tasks")] == ["calls the library"]


def test_nothing_stays_of_a_runner_that_has_stopped(heard: Heard) -> None:
    descriptors = set(os.listdir("/proc/self/fd")) if sys.platform == "linux" else set()
    perform(call_of(tasks.say, "a"))
    if sys.platform == "linux":
        assert set(os.listdir("/proc/self/fd")) <= descriptors
    assert not log_threads()


async def test_a_cancelled_call_that_logs_without_end_leaves_nothing(heard: Heard, tmp_path: Path) -> None:
    runner = ProcessRunner(slots=1)
    await runner.start()
    running = asyncio.create_task(runner.run(call_of(tasks.say_until, str(tmp_path / "never"))))
    await eventually(lambda: heard.of("shop.tasks"))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await runner.run(call_of(tasks.say, "next", id="next"))
    await runner.stop()
    assert fields(heard.of("shop.tasks")[-1])[0] == "next"
    assert not log_threads()


# -- load and trouble --------------------------------------------------------------------------------------------------


def test_a_flood_of_records_arrives_whole_and_in_order(heard: Heard) -> None:
    perform(call_of(tasks.say_much, 20_000, 200))
    numbers = [record.args[0] for record in heard.of("shop.tasks") if record.args]  # type: ignore[index]
    assert numbers == list(range(20_000))


async def test_the_event_loop_goes_on_while_a_handler_is_slow(heard: Heard) -> None:
    go, stuck = threading.Event(), threading.Event()

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name == "shop.tasks":
                stuck.set()
                go.wait(60)

    slow = Slow()
    logging.getLogger().addHandler(slow)

    try:
        runner = ProcessRunner(slots=1)
        await runner.start()
        running = asyncio.create_task(runner.run(call_of(tasks.say, "a")))
        await eventually(stuck.is_set)
        assert isinstance(await running, int)  # though the handler has not returned
        go.set()
        await runner.stop()
    finally:
        go.set()
        logging.getLogger().removeHandler(slow)


def test_a_handler_that_raises_or_exits_costs_its_record_only(heard: Heard, capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            if record.args == ("exit",):
                raise SystemExit(3)
            if record.args == ("raise",):
                raise LookupError("no handler")
            return True

    broken = Broken()
    logging.getLogger().addHandler(broken)
    try:
        perform(*(call_of(tasks.say, text) for text in ("raise", "exit", "next")))
    finally:
        logging.getLogger().removeHandler(broken)
    assert heard.of("shop.tasks")[-1].getMessage() == "says next"
    assert "no handler" in capsys.readouterr().err


def test_what_is_no_record_is_no_harm(heard: Heard, capsys: pytest.CaptureFixture[str]) -> None:
    handle_record(b"no pickle")
    assert "Traceback" in capsys.readouterr().err


def test_a_parent_that_does_not_read_holds_a_job_up_once_and_losses_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_sending, "SEND_TIMEOUT", 0.05)
    reader, sender = open_channel()
    with reader, sender:
        forwarder = Forwarder(sender)
        waits: list[bytes] = []
        wait = forwarder._wait_to_send

        def counted(payload: bytes) -> bool:
            waits.append(payload)
            return wait(payload)

        monkeypatch.setattr(forwarder, "_wait_to_send", counted)
        sent = 0
        while not forwarder._lost:
            forwarder.handle(logging.LogRecord("shop", logging.INFO, "p", 1, "line %d", (sent,), None))
            sent += 1
        for _ in range(99):
            forwarder.handle(logging.LogRecord("shop", logging.INFO, "p", 1, "lost", (), None))
        assert len(waits) == 1
        texts = [make_record(decode_record(reader.recv(1 << 17))).getMessage() for _ in range(sent - 1)]
        assert texts == [f"line {number}" for number in range(sent - 1)]
        forwarder.handle(logging.LogRecord("shop", logging.INFO, "p", 1, "again", (), None))
        texts = [make_record(decode_record(reader.recv(1 << 17))).getMessage() for _ in range(2)]
        assert texts[0] == "again"
        assert texts[1].startswith("100 log records of this process are lost")


def test_a_parent_that_is_gone_holds_nothing_up() -> None:
    reader, sender = open_channel()
    reader.close()
    with sender:
        forwarder = Forwarder(sender)
        for _ in range(10):
            assert forwarder.handle(logging.LogRecord("shop", logging.INFO, "p", 1, "line", (), None))
        assert not forwarder._lost


def test_a_child_has_no_record_to_wait_for_when_it_has_logged_nothing() -> None:
    reader, sender = open_channel()
    with reader, sender:
        forwarder = Forwarder(sender)
        forwarder.begin_call(None)
        assert not forwarder.end_call()
        forwarder.begin_call(job_info())
        forwarder.handle(logging.LogRecord("shop", logging.INFO, "p", 1, "line", (), None))
        assert forwarder.end_call()
        assert not forwarder.end_call()


def test_signals_are_left_alone() -> None:
    assert signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN
