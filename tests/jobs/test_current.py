"""``current_job`` alone: what it asks of the attempt that carries it, and what it refuses."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest

from jobify import current_job
from jobify.exceptions import BaseJobifyError, ConfigurationError, JobTimeoutError, TaskCancelledError
from jobify.jobs.current_job import CURRENT, CurrentJob, lent_slot, set_deadline
from jobify.model.records import MessageKind
from jobify.testing.pretending import PretendJob


class Attempt:
    """Takes down what it is told."""

    def __init__(self) -> None:
        self.id = "the-job"
        self.number = 3
        self.task_name = "mail"
        self.queue_name = "slow"
        self.metadata = {"tenant": "acme"}
        self.timeout: float | None = None
        self.deadline: float | None = None
        self.reason: str | None = None
        self.reports: list[tuple[MessageKind, Any, str | None]] = []

    batch = ()

    def stop_reason(self) -> str | None:
        return self.reason

    def encode(self, value: Any) -> Any:
        return ("encoded", value)

    def report(self, kind: MessageKind, data: Any, level: str | None = None) -> None:
        self.reports.append((kind, data, level))


@pytest.fixture
def attempt() -> Iterator[Attempt]:
    attempt = Attempt()
    token = CURRENT.set(attempt)
    yield attempt
    CURRENT.reset(token)


def test_it_shows_the_attempt(attempt: Attempt) -> None:
    assert current_job.id == "the-job"
    assert current_job.task_name == "mail"
    assert current_job.queue_name == "slow"
    assert current_job.metadata == {"tenant": "acme"}
    assert (current_job.attempt, current_job.retry_count) == (3, 2)
    assert repr(current_job) == "<current_job the-job>"


@pytest.mark.parametrize(
    "use",
    [
        lambda job: job.id,
        lambda job: job.task_name,
        lambda job: job.queue_name,
        lambda job: job.attempt,
        lambda job: job.retry_count,
        lambda job: job.metadata,
    ],
)
def test_outside_of_a_job_there_is_none_to_ask(use: Any) -> None:
    with pytest.raises(RuntimeError, match=r"no current job here\. Use current_job in a task"):
        use(current_job)


def test_outside_of_a_job_reports_and_checks_do_nothing(caplog: pytest.LogCaptureFixture) -> None:
    current_job.update_progress(1)
    current_job.publish(object())
    current_job.check_cancelled()
    current_job.check_timeout()
    current_job.log("half \ud800 %s", level="warning")
    ((logger, level, text),) = caplog.record_tuples
    assert (logger, level, text) == ("jobify.jobs", logging.WARNING, "half \\ud800 %s")


def test_outside_of_a_job_bad_reports_are_refused_all_the_same() -> None:
    with pytest.raises(ConfigurationError):
        current_job.update_progress(101)
    with pytest.raises(ConfigurationError):
        current_job.log("x", level="loud")


def test_a_test_can_pretend_a_job() -> None:
    with PretendJob(id="a", attempt=3, task_name="mail", queue_name="slow", metadata={"tenant": "acme"}) as job:
        assert (current_job.id, current_job.attempt, current_job.retry_count) == ("a", 3, 2)
        assert (current_job.task_name, current_job.queue_name) == ("mail", "slow")
        assert current_job.metadata == {"tenant": "acme"}
        current_job.update_progress(50)
        current_job.publish({"a": 1})
        current_job.log("hello", "error")
        with lent_slot():
            current_job.check_cancelled()
        job.stop()
        with pytest.raises(TaskCancelledError):
            current_job.check_cancelled()
    assert (job.progress, job.values, job.logs) == ([50.0], [{"a": 1}], [("error", "hello")])
    assert repr(current_job) == "<current_job (none)>"


def test_a_pretended_job_can_run_out_of_time() -> None:
    with PretendJob(timeout=timedelta()):
        with pytest.raises(JobTimeoutError):
            current_job.check_timeout()
        with pytest.raises(TaskCancelledError, match="timeout"):
            current_job.check_cancelled()


def test_outside_of_a_job_it_can_still_be_shown() -> None:
    assert repr(current_job) == "<current_job (none)>"
    assert isinstance(current_job, CurrentJob)


@pytest.mark.parametrize("percent", [0, 100, 33.3, Fraction(1, 2)])
def test_progress_is_reported_as_a_float(attempt: Attempt, percent: Any) -> None:
    current_job.update_progress(percent)
    ((kind, data, level),) = attempt.reports
    assert (kind, data, level) == (MessageKind.PROGRESS, float(percent), None)
    assert type(data) is float


@pytest.mark.parametrize("percent", [-0.1, 100.5, float("nan"), float("inf"), True, "50", None, 1j])
def test_progress_that_is_no_percentage_is_refused(attempt: Attempt, percent: Any) -> None:
    with pytest.raises(ValueError, match="a number from 0 to 100, not "):
        current_job.update_progress(percent)
    assert attempt.reports == []


def test_values_are_encoded_by_the_attempt(attempt: Attempt) -> None:
    current_job.publish({"a": 1})
    assert attempt.reports == [(MessageKind.VALUE, ("encoded", {"a": 1}), None)]


def test_log_lines_are_texts_of_a_level(attempt: Attempt) -> None:
    current_job.log("three")
    current_job.log(ValueError("half \ud800"), level="error")
    assert attempt.reports == [(MessageKind.LOG, "three", "info"), (MessageKind.LOG, "half \\ud800", "error")]


@pytest.mark.parametrize("level", ["critical", "CRITICAL", "Critical"])
def test_levels_are_written_in_letters_of_any_size(attempt: Attempt, level: str) -> None:
    current_job.log("x", level)
    assert attempt.reports == [(MessageKind.LOG, "x", "critical")]


@pytest.mark.parametrize(
    ("level", "advice"),
    [("warn", "Did you mean 'warning'?"), ("CRITICALLY", "Did you mean 'critical'?"), (7, "There are: debug, info, ")],
)
def test_an_unknown_level_is_refused_with_advice(attempt: Attempt, level: Any, advice: str) -> None:
    with pytest.raises(ValueError, match=f"no log level {level!r}. {advice}".replace("?", r"\?")):
        current_job.log("x", level=level)
    assert attempt.reports == []


def test_values_for_a_format_are_no_level_and_the_error_says_where_they_go(attempt: Attempt) -> None:
    with pytest.raises(ValueError, match=r"no log level 7\. There are: .* Format the message first: log\(f"):
        current_job.log("packed order %s", 7)  # type: ignore[arg-type]
    assert attempt.reports == []


def test_check_cancelled_raises_once_there_is_a_reason(attempt: Attempt) -> None:
    current_job.check_cancelled()
    attempt.reason = "cancel"
    with pytest.raises(TaskCancelledError) as caught:
        current_job.check_cancelled()
    assert (caught.value.job_id, caught.value.reason) == ("the-job", "cancel")
    assert isinstance(caught.value, RuntimeError)
    assert isinstance(caught.value, BaseJobifyError)


def test_check_timeout_raises_once_the_time_is_over(attempt: Attempt) -> None:
    current_job.check_timeout()
    set_deadline(3600)
    current_job.check_timeout()
    attempt.deadline = time.monotonic()
    with pytest.raises(JobTimeoutError, match="exceeded its timeout of 3600 seconds"):
        current_job.check_timeout()


def test_a_limit_without_a_job_does_nothing() -> None:
    set_deadline(1)
    assert CURRENT.get() is None


async def test_threads_and_tasks_of_the_job_see_it(attempt: Attempt) -> None:
    async def here() -> str:
        return current_job.id

    created = asyncio.create_task(here())
    assert [await created, await asyncio.to_thread(lambda: current_job.id)] == ["the-job", "the-job"]


def test_what_begins_in_a_context_of_its_own_does_not(attempt: Attempt) -> None:
    with pytest.raises(RuntimeError, match="no current job"):
        contextvars.Context().run(lambda: current_job.id)


def test_a_process_that_the_job_forks_is_not_the_job(attempt: Attempt) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0 if repr(current_job) == "<current_job (none)>" else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert current_job.id == "the-job"
