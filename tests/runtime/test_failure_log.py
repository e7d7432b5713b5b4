"""Failures that repeat, in the log."""

from __future__ import annotations

import logging

import pytest

from jobify.runtime.failure_log import FailureLog

pytestmark = pytest.mark.promise("f52")

log = logging.getLogger("jobify.test")


class Elapsed:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return found


def test_one_line_then_one_a_minute_then_that_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    elapsed = Elapsed()
    failures = FailureLog(log, "It works again", elapsed=elapsed)
    for _ in range(1000):
        failures.failed("a", "Disk of %s is full", "job")
        elapsed.now += 1 / 32
    assert lines(caplog) == ["Disk of job is full"]
    for _ in range(1000):
        failures.failed("b", "Disk of %s is full", "job")
        elapsed.now += 1 / 16
    assert lines(caplog) == ["Disk of job is full (1461 failures in 60 s)"]
    failures.succeeded("a")
    assert (lines(caplog), failures.is_failing) == ([], True)
    failures.succeeded("b")
    failures.succeeded("b")
    assert (lines(caplog), failures.is_failing) == (["It works again after 2000 failures in 94 s."], False)


def test_what_comes_and_goes_does_not_write_more(caplog: pytest.LogCaptureFixture) -> None:
    elapsed = Elapsed()
    failures = FailureLog(log, "It works again", elapsed=elapsed)
    for _ in range(1200):
        failures.failed("a", "It fails")
        failures.succeeded("a")
        elapsed.now += 1 / 16
    assert lines(caplog) == ["It fails", "It works again after 1 failures in 0 s."] * 2


def test_a_source_that_is_gone_does_not_say_that_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    failures = FailureLog(log, "It works again", elapsed=Elapsed())
    failures.failed("a", "It fails", error=ValueError("with a traceback"))
    assert caplog.records[0].exc_info
    failures.forget("a")
    failures.forget("a")
    assert (lines(caplog), failures.is_failing) == (["It fails"], False)
