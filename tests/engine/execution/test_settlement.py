"""What the end of an attempt means: dead or only failed, and how long the row is kept."""

from __future__ import annotations

from datetime import UTC
from types import SimpleNamespace
from typing import Any

import pytest

from jobify.crontab import create_crontab
from jobify.engine.execution.attempt import Attempt, ScheduleRun
from jobify.engine.execution.outcome import classify
from jobify.engine.execution.settlement import build_settlement
from jobify.exceptions import JobTimeoutError, NoResultError, PayloadError, ProcessDiedError, ResultNotStoredError
from jobify.model.clock import SECOND
from jobify.model.cron import Cron
from jobify.model.cron_rules import CronRuleCache
from jobify.model.records import Parking, Settlement
from jobify.model.retention import Retention
from jobify.model.retry import SmartRetry
from jobify.model.status import Cancelled, JobStatus, RetryAt

RETENTION = Retention(complete=1, failed=2, dead=3, cancelled=4)
NOW = 1_000_000
TWICE = SmartRetry(2, exclude_exceptions=(KeyError,))


def attempt(number: int, retry: SmartRetry | None, *, is_readable: bool = True, **options: Any) -> Attempt:
    endpoint: Any = SimpleNamespace(
        retry=retry, name="task", result_ttl=options.pop("result_ttl", None), fingerprint=lambda: "the code"
    )
    backend: Any = SimpleNamespace(owner=1, app_code=lambda: "the code")
    pool: Any = None
    made = Attempt(backend, endpoint, pool, "it", 0, None, number=number, **options)
    if is_readable:
        made.args = ()
    return made


def ended(tried: Attempt, error: BaseException) -> Settlement:
    outcome = classify(tried, None, error, now=NOW, max_crashes=3)
    return build_settlement(tried, outcome, None, now=NOW, retention=RETENTION)


@pytest.mark.parametrize(
    ("number", "retry", "error", "is_dead"),
    [
        (1, None, ValueError(), False),
        (1, SmartRetry(0), ValueError(), False),
        (3, TWICE, ValueError(), True),
        (3, TWICE, KeyError(), False),
        (1, TWICE, KeyError(), False),
        (3, TWICE, NoResultError(), False),
        (1, None, JobTimeoutError("it", 1.0), False),
        (3, TWICE, JobTimeoutError("it", 1.0), True),
    ],
)
def test_dead_is_what_had_retries_and_has_used_them_up(
    number: int, retry: SmartRetry | None, error: BaseException, is_dead: bool
) -> None:
    settlement = ended(attempt(number, retry), error)
    assert settlement.status == (JobStatus.TIMEOUT if isinstance(error, JobTimeoutError) else JobStatus.FAILED)
    assert settlement.is_dead is is_dead
    assert settlement.delete_at == NOW + (3 if is_dead else 2) * SECOND


def test_what_is_tried_again_is_not_dead() -> None:
    tried = attempt(1, TWICE)
    assert isinstance(classify(tried, None, ValueError(), now=NOW, max_crashes=3), RetryAt)
    assert ended(tried, ValueError()).is_dead is False


@pytest.mark.parametrize("retry", [None, SmartRetry(0), TWICE])
@pytest.mark.parametrize("number", [1, 3, 9])
def test_the_death_of_a_child_is_a_lost_attempt_whatever_the_retries_say(number: int, retry: SmartRetry | None) -> None:
    tried = attempt(number, retry)
    tried.crashes = 1
    settlement = ended(tried, ProcessDiedError(-9, "gone"))
    assert (settlement.status, settlement.ready, settlement.attempt) == ("scheduled", True, number)
    assert (settlement.is_lost, settlement.is_dead) == (True, False)
    assert [(line.outcome, line.error) for line in settlement.history] == [("lost", "ProcessDiedError: gone")]


def test_a_job_that_took_too_many_children_down_is_dead() -> None:
    tried = attempt(1, None)
    tried.crashes = 2
    settlement = ended(tried, ProcessDiedError(-9, "gone"))
    assert (settlement.status, settlement.is_lost, settlement.is_dead) == ("failed", True, True)
    assert settlement.error == "ProcessDiedError: gone"


def test_a_schedule_that_is_stopped_is_dead() -> None:
    rule = CronRuleCache(UTC, create_crontab).of_cron(Cron("* * * * *", max_failures=1))
    run = ScheduleRun(rule, offset_at=0, run_count=0, failure_count=0)
    settlement = ended(attempt(1, None, run=run), ValueError())
    assert settlement.status == JobStatus.PERMANENTLY_FAILED
    assert settlement.is_dead
    assert settlement.delete_at == NOW + 3 * SECOND
    assert [line.code for line in settlement.history] == ["the code"]


@pytest.mark.promise("f7")
def test_a_schedule_that_has_ended_by_its_rule_is_not_dead() -> None:
    rule = CronRuleCache(UTC, create_crontab).of_cron(Cron("* * * * *", max_runs=1))
    settlement = ended(
        attempt(9, TWICE, run=ScheduleRun(rule, offset_at=0, run_count=0, failure_count=0)), ValueError()
    )
    assert (settlement.status, settlement.is_dead) == ("failed", False)
    assert [line.code for line in settlement.history] == [None]


def test_what_cannot_be_read_is_kept_for_good_and_is_not_dead() -> None:
    settlement = ended(attempt(1, TWICE, is_readable=False, origin=1), PayloadError("rubbish"))
    assert (settlement.status, settlement.is_dead, settlement.delete_at) == ("failed", False, None)


@pytest.mark.promise("f34")
def test_what_other_code_may_read_is_parked() -> None:
    settlement = ended(attempt(2, TWICE, is_readable=False, origin=7), PayloadError("rubbish"))
    assert (settlement.status, settlement.attempt, settlement.error) == ("scheduled", 1, "rubbish")
    assert settlement.parking == Parking("rubbish", NOW, ("the code",))
    assert [line.outcome for line in settlement.history] == ["parked"]


@pytest.mark.promise("f34")
def test_the_last_run_of_a_schedule_that_cannot_be_read_is_its_end() -> None:
    rule = CronRuleCache(UTC, create_crontab).of_cron(Cron("* * * * *"))
    run = ScheduleRun(rule, offset_at=0, run_count=0, failure_count=0)
    settlement = ended(attempt(1, None, is_readable=False, origin=7, run=run, is_last=True), PayloadError("rubbish"))
    assert (settlement.status, settlement.parking) == ("cancelled", None)


def test_what_misses_an_input_has_the_window_of_failures() -> None:
    settlement = ended(attempt(1, TWICE, is_readable=False), ResultNotStoredError("parent", "it is gone."))
    assert (settlement.status, settlement.is_dead, settlement.delete_at) == ("failed", False, NOW + 2 * SECOND)


def test_a_cancelled_job_has_a_window_of_its_own() -> None:
    settlement = build_settlement(attempt(1, None), Cancelled("expired"), None, now=NOW, retention=RETENTION)
    assert (settlement.error, settlement.is_dead) == ("expired", False)
    assert settlement.delete_at == NOW + 4 * SECOND


@pytest.mark.parametrize(("own", "window"), [(None, 1), (60.0, 60), (0.0, 0)])
def test_a_success_is_kept_for_its_own_result_ttl(own: float | None, window: int) -> None:
    tried = attempt(1, None, result_ttl=own)
    outcome = classify(tried, 5, None, now=NOW, max_crashes=3)
    assert build_settlement(tried, outcome, b"5", now=NOW, retention=RETENTION).delete_at == NOW + window * SECOND


@pytest.mark.parametrize(
    ("error", "text"), [(ValueError("no box"), "ValueError: no box"), (AssertionError(), "AssertionError")]
)
def test_an_error_reads_as_in_a_traceback(error: Exception, text: str) -> None:
    assert ended(attempt(1, None), error).error == text


def test_the_history_shows_the_users_frames() -> None:
    def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no") as raised:
        fails()
    (line,) = ended(attempt(1, None), raised.value).history
    assert line.error == "ValueError: no"
    assert line.traceback is not None
    assert "in fails" in line.traceback
