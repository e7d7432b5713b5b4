"""The row of a job after an attempt, by the outcome. Pure: the time is an argument."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from jobify.engine.execution.attempt import Attempt, ScheduleRun
from jobify.exceptions import ProcessDiedError, ResultNotStoredError, shown
from jobify.gateway.notification import NEW_WORK, STATE_CHANGED, Audience
from jobify.model.clock import SECOND, seconds, to_datetime
from jobify.model.limit_gates import SettledLimits
from jobify.model.misfire import Missed, Plan, plan_after, search_from
from jobify.model.records import AttemptRecord, Claim, Parking, Settlement
from jobify.model.retention import Retention
from jobify.model.status import (
    TERMINAL,
    Cancelled,
    Event,
    Failed,
    JobStatus,
    Lost,
    Outcome,
    Refused,
    Released,
    RetryAt,
    Returned,
    Skipped,
    Snoozed,
    Succeeded,
    TimedOut,
    Unfit,
    next_status,
)
from jobify.model.tracebacks import own_traceback
from jobify.runtime.errortools import described
from jobify.storage.end_reasons import snoozed
from jobify.types import Microseconds

__all__ = (
    "audience_of",
    "build_settlement",
    "describe_error",
    "park_settlement",
    "skip_record",
    "skip_settlement",
    "success_delete_at",
    "success_of_first_attempt",
    "truncated",
)

_LONGEST_TRACEBACK = 100_000
_PARKED_FOR = 5.0
"""Seconds until a schedule that this process cannot read is due again, for any process."""

_EVENTS: Final[dict[type[Any], Event]] = {
    Succeeded: Event.SUCCEEDED,
    RetryAt: Event.RETRY,
    Failed: Event.FAILED,
    TimedOut: Event.TIMED_OUT,
    Cancelled: Event.CANCELLED,
    Released: Event.RELEASED,
    Returned: Event.RELEASED,
    Refused: Event.RELEASED,
    Snoozed: Event.RELEASED,
    Lost: Event.LOST,
    Unfit: Event.PARKED,
}
_SUCCESS: Final = next_status(JobStatus.RUNNING, Event.SUCCEEDED).value


class _Transition(NamedTuple):
    """The event, and the fields of the row that follow from it."""

    event: Event
    due_at: Microseconds
    offset_at: Microseconds | None
    attempt: int
    run_count: int = 0
    failure_count: int = 0
    skipped: Missed | None = None


def build_settlement(
    attempt: Attempt, outcome: Outcome, result: Any, *, now: Microseconds, retention: Retention
) -> Settlement:
    """The row after ``outcome``. An ended row may be deleted when its window of ``retention`` is over.

    Two kinds are kept for good: a declared schedule that ended by its own rule, because a restart would take it for a
    new one; and a job that could not be read, so that its cause can be found.
    """
    if attempt.run is None and type(outcome) is Succeeded:  # nearly every job, on the hot path
        delete_at = success_delete_at(attempt, now=now, retention=retention)
        return Settlement(
            _SUCCESS, False, attempt.due_at, None, attempt.number, 0, 0, result, None, now, delete_at, False,
            False, attempt.id, attempt.backend.owner, attempt.fence, (), None, attempt.limits,
        )  # fmt: skip
    if attempt.is_last and isinstance(outcome, Snoozed):
        outcome = Cancelled()
    following = _next(attempt, outcome, now)
    status = next_status(JobStatus.RUNNING, following.event)
    has_ended = status in TERMINAL
    is_dead = status is JobStatus.PERMANENTLY_FAILED or (has_ended and attempt.run is None and _is_dead(outcome))
    return Settlement(
        status=status.value,
        ready=following.due_at <= now,
        due_at=following.due_at,
        offset_at=following.offset_at,
        attempt=following.attempt,
        run_count=following.run_count,
        failure_count=following.failure_count,
        result=result,
        error=describe_error(outcome),
        finished_at=now if has_ended else None,
        delete_at=_delete_at(attempt, outcome, status, retention, is_dead=is_dead, now=now) if has_ended else None,
        is_dead=is_dead,
        is_lost=_is_crash(outcome),
        id=attempt.id,
        owner=attempt.backend.owner,
        fence=attempt.fence,
        history=_history(attempt, outcome, following, now),
        parking=Parking(outcome.reason, now, (outcome.code,)) if isinstance(outcome, Unfit) and not has_ended else None,
        limits=_limits(attempt, outcome),
    )


def _limits(attempt: Attempt, outcome: Outcome) -> SettledLimits | None:
    if attempt.limits is not None and isinstance(outcome, Snoozed) and outcome.closes_rates:
        return attempt.limits._replace(closed_until=outcome.at)
    return attempt.limits


def success_delete_at(attempt: Attempt, *, now: Microseconds, retention: Retention) -> Microseconds | None:
    """When the row of a job that succeeds ``now`` may be deleted. None means never."""
    window = retention.complete if attempt.endpoint.result_ttl is None else attempt.endpoint.result_ttl
    return None if window is None else now + round(window * SECOND)


def success_of_first_attempt(
    id: str,
    owner: int,
    due_at: Microseconds,
    result: Any,
    finished_at: Microseconds | None,
    delete_at: Microseconds | None,
) -> Settlement:
    """The success of a job that was inserted already claimed by ``owner``."""
    return Settlement(
        _SUCCESS, False, due_at, None, 1, 0, 0, result, None, finished_at, delete_at, False, False, id, owner, 1
    )


def skip_settlement(attempt: Attempt, run: ScheduleRun, decision: Plan, *, now: Microseconds) -> Settlement:
    """The row of a schedule whose due time is skipped: it waits for the next one, or has ended if there is none."""
    event = Event.LAST_RUN if decision.run_at is None else Event.NEXT_RUN
    due_at = run.offset_at if decision.run_at is None else decision.run_at
    return Settlement(
        status=next_status(JobStatus.RUNNING, event).value,
        ready=due_at <= now,
        due_at=due_at,
        offset_at=due_at,
        attempt=0,
        run_count=run.run_count,
        failure_count=run.failure_count,
        result=None,
        error=None,
        finished_at=now if decision.run_at is None else None,
        delete_at=None,
        is_dead=False,
        is_lost=False,
        id=attempt.id,
        owner=attempt.backend.owner,
        fence=attempt.fence,
        history=() if decision.skipped is None else (skip_record(attempt, decision.skipped, now=now),),
        limits=attempt.limits,
    )


def park_settlement(attempt: Attempt, claim: Claim, reason: str, *, now: Microseconds) -> Settlement:
    """The row of a schedule that this process cannot read: it waits as before, with the reason, and is due soon."""
    return Settlement(
        status=next_status(JobStatus.RUNNING, Event.RELEASED).value,
        ready=False,
        due_at=now + seconds(_PARKED_FOR),
        offset_at=claim.due_at if claim.offset_at is None else claim.offset_at,
        attempt=claim.attempt - 1,
        run_count=claim.run_count,
        failure_count=claim.failure_count,
        result=None,
        error=reason,
        finished_at=None,
        delete_at=None,
        is_dead=False,
        is_lost=False,
        id=attempt.id,
        owner=attempt.backend.owner,
        fence=attempt.fence,
        limits=attempt.limits,
    )


def audience_of(attempt: Attempt, outcome: Outcome) -> Audience | None:
    """The other processes to notify of the end of the attempt."""
    if type(outcome) is Succeeded:
        return Audience.of_end(attempt.origin, here=attempt.backend.owner)
    match outcome:
        case RetryAt() | Refused() | Snoozed() | Lost() | Skipped():
            return None
        case Released() | Returned() | Unfit():
            return NEW_WORK
        case Cancelled():  # the caller that has cancelled it waits, and may be in any process
            return STATE_CHANGED
        case _:
            return Audience.of_end(attempt.origin, here=attempt.backend.owner)


def truncated(settlement: Settlement, error: Exception) -> Settlement:
    """The same end with less data: even if its result cannot be written, the job has ended and must not run again."""
    if settlement.result is not None:
        return settlement._replace(result=None, error=f"{ResultNotStoredError.__name__}: {shown(error)}")
    return settlement._replace(
        error=settlement.error and f"{type(error).__name__} while its error was stored", history=()
    )


def describe_error(outcome: Outcome) -> str | None:
    """``Type: message`` of the error, or ``Type`` if it has no message. None means that there was no error."""
    match outcome:
        case RetryAt(error) | Failed(error) | TimedOut(error):
            return described(error)
        case Cancelled(reason) | Lost(reason) | Refused(reason=reason) | Unfit(reason=reason):
            return reason
        case Snoozed(reason=reason):
            return snoozed(reason)
        case _:
            return None


def attempt_record(attempt: Attempt, outcome: Outcome, *, now: Microseconds) -> AttemptRecord:
    """The history line of an attempt that ended ``now``."""
    return AttemptRecord(
        job_id=attempt.id,
        attempt=attempt.number,
        due_at=attempt.due_at if attempt.run is None else attempt.run.offset_at,
        outcome=_EVENTS[type(outcome)].value,
        error=describe_error(outcome),
        traceback=_traceback(outcome),
        started_at=attempt.started_at,
        finished_at=now,
        owner=attempt.backend.owner,
        code=attempt.endpoint.fingerprint() if _stops_schedule(attempt, outcome) else None,
    )


def skip_record(attempt: Attempt, missed: Missed, *, now: Microseconds) -> AttemptRecord:
    """The history line of due times that a misfire policy has skipped."""
    count = f"{missed.count}" if missed.is_exact else f"more than {missed.count}"
    until = "" if missed.first == missed.last else f" to {to_datetime(missed.last).isoformat()}"
    return AttemptRecord(
        job_id=attempt.id,
        attempt=0,
        due_at=missed.first,
        outcome="skipped",
        error=f"{count} missed, {to_datetime(missed.first).isoformat()}{until}",
        traceback=None,
        started_at=None,
        finished_at=now,
        owner=attempt.backend.owner,
    )


def _stops_schedule(attempt: Attempt, outcome: Outcome) -> bool:
    """Whether this failure in a row is the last one that the schedule allows."""
    run = attempt.run
    return isinstance(outcome, Failed | TimedOut) and run is not None and _is_last_failure(run)


def _is_last_failure(run: ScheduleRun) -> bool:
    return run.failure_count + 1 >= run.cron.max_failures


def _is_crash(outcome: Outcome) -> bool:
    return (isinstance(outcome, Lost) and outcome.is_crash) or (
        isinstance(outcome, Failed) and type(outcome.error) is ProcessDiedError
    )


def _is_dead(outcome: Outcome) -> bool:
    return isinstance(outcome, Failed | TimedOut) and outcome.is_dead


def _delete_at(
    attempt: Attempt, outcome: Outcome, status: JobStatus, retention: Retention, *, is_dead: bool, now: Microseconds
) -> Microseconds | None:
    """When an ended row may be deleted."""
    if attempt.is_declared and status is not JobStatus.CANCELLED:
        return None
    if isinstance(outcome, Failed) and not (attempt.is_readable or isinstance(outcome.error, ResultNotStoredError)):
        return None  # a missing result of another job needs no inspection: the row says it all
    own = attempt.endpoint.result_ttl
    if status is JobStatus.SUCCESS and own is not None:
        return now + seconds(own)
    return retention.delete_at(status, is_dead=is_dead, now=now)


def _next(attempt: Attempt, outcome: Outcome, now: Microseconds) -> _Transition:
    if attempt.is_last and isinstance(outcome, RetryAt | Released | Returned | Refused | Lost | Unfit):
        outcome = Cancelled()
    if attempt.run is None:
        return _next_of_job(attempt, outcome, now)
    return _next_of_schedule(attempt.run, attempt, outcome, now)


def _next_of_job(attempt: Attempt, outcome: Outcome, now: Microseconds) -> _Transition:
    match outcome:
        case RetryAt(at=at):  # an elapsed time: ``now`` is what it is counted from
            return _Transition(Event.RETRY, at, now, attempt.number)
        case Released() | Returned() | Unfit():
            return _Transition(_EVENTS[type(outcome)], attempt.due_at, None, attempt.number - 1)
        case Lost(at=int(at)):
            return _Transition(Event.LOST, at, now, attempt.number)
        case Refused(at=at) | Snoozed(at=at):
            return _Transition(Event.RELEASED, at, now, attempt.number - 1)
        case _:
            return _Transition(_EVENTS[type(outcome)], attempt.due_at, None, attempt.number)


def _next_of_schedule(run: ScheduleRun, attempt: Attempt, outcome: Outcome, now: Microseconds) -> _Transition:
    """Count a run that is over; the schedule goes on unless this was the last run by its rule."""
    same_run = _next_of_job(attempt, outcome, now)._replace(
        offset_at=run.offset_at, run_count=run.run_count, failure_count=run.failure_count
    )
    if isinstance(outcome, RetryAt | Released | Returned | Refused | Snoozed | Lost | Unfit | Cancelled):
        return same_run
    run_count = run.run_count + 1
    if attempt.is_last:
        return same_run._replace(event=Event.CANCELLED, run_count=run_count)
    failure_count = 0 if isinstance(outcome, Succeeded) else run.failure_count + 1
    ended = same_run._replace(run_count=run_count, failure_count=failure_count)
    if failure_count and _is_last_failure(run):
        return ended._replace(event=Event.GIVE_UP)
    if 0 <= run.cron.max_runs <= run_count:
        return ended
    ran = search_from(run.offset_at, now=now)
    following = plan_after(run.cron.misfire_policy, ran, now=now, next_due=run.next_due)
    if following.run_at is None:
        return ended
    return _Transition(
        Event.NEXT_RUN, following.run_at, following.run_at, 0, run_count, failure_count, following.skipped
    )


def _history(
    attempt: Attempt, outcome: Outcome, following: _Transition, now: Microseconds
) -> tuple[AttemptRecord, ...]:
    """History lines: of everything but a plain success, and of every run of a schedule, unless recorded already."""
    if isinstance(outcome, Returned) or (attempt.run is None and isinstance(outcome, Succeeded)):
        return ()
    is_left_out = attempt.is_recorded or isinstance(outcome, Snoozed)  # which may happen any number of times
    lines = [] if is_left_out else [attempt_record(attempt, outcome, now=now)]
    before = None if attempt.run is None else attempt.run.skipped
    skips = [skip_record(attempt, missed, now=now) for missed in (before, following.skipped) if missed is not None]
    return (*lines, *skips)


def _traceback(outcome: Outcome) -> str | None:
    match outcome:
        case RetryAt(error) | Failed(error) | TimedOut(error):
            return shown(own_traceback(error), _LONGEST_TRACEBACK)
        case _:
            return None
