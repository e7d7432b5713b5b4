"""How an attempt ended: from a value, an error or an interruption to an outcome, and its result as bytes.

A stored call may not fit the code of this process, because a release has renamed, moved or removed what it names. Such
a job must not fail: nothing of it has run, and other code can run it, that of the release before or of the next one. So
it is parked with the reason and waits; see *Parked calls* in :mod:`jobify.storage.base`. The exception is a job that
this process has pushed itself: its call was made for no other code, so it fails, and its caller gets the reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, Final, TypeAlias

from jobify.config import JobifyConfiguration
from jobify.engine.execution.attempt import Attempt, Interruption
from jobify.exceptions import (
    JobTimeoutError,
    NoRetriesLeftError,
    PayloadError,
    ProcessDiedError,
    ResultNotStoredError,
    shown,
)
from jobify.model.clock import seconds
from jobify.model.control_flow import RateLimited, Retry, Snooze, named, signal_of
from jobify.model.retry import SmartRetry, applies_to, should_retry
from jobify.model.status import (
    Cancelled,
    Failed,
    Lost,
    Outcome,
    Refused,
    Released,
    RetryAt,
    Snoozed,
    Succeeded,
    TimedOut,
    Unfit,
)
from jobify.router.registry import Registry, endpoints_of
from jobify.runners.base import contained
from jobify.runtime.code_fingerprint import app_code
from jobify.runtime.errortools import described
from jobify.runtime.logs import get_logger
from jobify.serializers.extended_json import ExtendedJSONSerializer
from jobify.serializers.offload import SMALL, in_thread, is_large
from jobify.storage.suspicion import is_blamed_for_child
from jobify.types import Microseconds

__all__ = ("AppCode", "Encoded", "classify", "death_of_child", "doubted", "encode", "encode_in_thread", "takes_long")

log = get_logger("jobify.engine")

_LONGEST_PAUSE: Final = 5
"""Seconds after which a job runs again whose child process died beside others, at most."""
_LONGEST_WAIT: Final = 1e9
"""Seconds until a retry at most: thirty years, which can still be added to any date."""


def classify(
    attempt: Attempt, value: Any, error: BaseException | None, *, now: Microseconds, max_crashes: int
) -> Outcome:
    """How the attempt ended.

    A user's cancel wins over whatever the task made of it. A shutdown releases the job, unless the task finished all
    the same, or has put the job off. A stored call that does not fit the code is no failure. Anything but an Exception
    (SystemExit, a CancelledError without a request) is the task's own failure, as a TaskExitError. The death of a child
    process is treated as that of a whole one: whatever the retry policy, the job runs again at once, unless this is the
    crash number ``max_crashes``. Pure: the time is an argument.
    """
    if attempt.call is not None and attempt.call.refusal is not None and attempt.interruption is None:
        return Refused(attempt.call.refusal, now + seconds(attempt.pool.pause))  # whatever middleware made of it
    if error is None and attempt.interruption is not Interruption.CANCEL:
        return Succeeded(value)
    if attempt.interruption is Interruption.CANCEL or error is None:
        return Cancelled()
    if (unfit := unfit_of(attempt, error)) is not None:
        return unfit
    signal = signal_of(error)
    if isinstance(signal, Snooze):
        return Snoozed(now + seconds(signal.delay), signal.reason, isinstance(signal, RateLimited))
    if attempt.interruption is not None:  # a shutdown, or the job was taken from this process
        return Released()
    if signal is not None:
        return _retry_requested(attempt, named(signal), now)
    error = contained(error)
    if type(error) is ProcessDiedError:
        is_too_much = attempt.crashes + 1 >= max_crashes
        return Failed(error, is_dead=True) if is_too_much else Lost(described(error))
    retry = _policy(attempt)
    if retry is not None and should_retry(retry, error, attempt.number):
        return RetryAt(error, now + _wait(retry, attempt))
    is_dead = applies_to(retry, error)
    if isinstance(error, JobTimeoutError) and error.job_id == attempt.id:
        return TimedOut(error, is_dead)
    return Failed(error, is_dead)


def death_of_child(outcome: Outcome) -> str | None:
    """How the child process died that ran the attempt; None if none did."""
    if isinstance(outcome, Failed) and type(outcome.error) is ProcessDiedError:
        return described(outcome.error)
    return outcome.reason if isinstance(outcome, Lost) else None


async def doubted(attempt: Attempt, outcome: Outcome, reason: str, *, now: Microseconds) -> Outcome:
    """``outcome``, the death of a child process, once the storage has said whether others die for another reason.

    If they do, or if that cannot be known, the job is not blamed: it runs again, after a pause that grows with its
    attempts.
    """
    backend = attempt.backend
    try:
        deaths = await backend.gate.call(lambda: backend.storage.recent_deaths(now=now))
        if is_blamed_for_child(deaths, died_at=now, is_last=isinstance(outcome, Failed)):
            return outcome
    except Exception as error:  # the storage is unavailable, or one of a user has a defect: in doubt for the job
        log.debug("It is not known whether other processes died with the child of job %s: %r", attempt.id, error)
    return Lost(reason, is_crash=False, at=now + seconds(min(attempt.number - 1, _LONGEST_PAUSE)))


def _policy(attempt: Attempt) -> SmartRetry | None:
    return attempt.endpoint.retry if attempt.is_readable else None


def _wait(retry: SmartRetry, attempt: Attempt) -> Microseconds:
    return seconds(min(retry.compute_delay(attempt.number), _LONGEST_WAIT))


def _retry_requested(attempt: Attempt, signal: Retry, now: Microseconds) -> Outcome:
    """The end of an attempt whose task has raised ``Retry``, whichever errors its policy retries."""
    retry = _policy(attempt)
    if retry is not None and attempt.number <= retry.retries:
        return RetryAt(signal, now + (_wait(retry, attempt) if signal.delay is None else seconds(signal.delay)))
    has_retries = retry is not None and retry.retries > 0
    error = NoRetriesLeftError(str(signal), attempt.number, has_retries=has_retries)
    error.__cause__, error.__context__ = signal.__cause__, signal.__context__
    error.__suppress_context__ = signal.__suppress_context__
    return Failed(error.with_traceback(signal.__traceback__), is_dead=has_retries)


def unfit_of(attempt: Attempt, error: BaseException) -> Unfit | None:
    """The outcome of an attempt whose call does not fit this code; None if it fits, or if the job fails for it."""
    if attempt.interruption is not None or attempt.origin == attempt.backend.owner:
        return None
    reason = None if attempt.call is None else attempt.call.misfit
    if reason is None and not attempt.is_readable and _is_about_a_value(error):
        reason = str(error)
    return None if reason is None else Unfit(reason, attempt.backend.app_code())


def _is_about_a_value(error: BaseException) -> bool:
    """Whether a stored value exists but cannot be read here: the arguments, or a result that is one of them."""
    return isinstance(error, PayloadError) or (
        isinstance(error, ResultNotStoredError) and isinstance(error.__cause__, PayloadError)
    )


class AppCode:
    """The fingerprint of the app's code, made at its first use, because most processes never need it.

    If it cannot be made (an object of the user's raises an error when it is inspected) each process gets another one,
    so that each tries parked calls once.
    """

    def __init__(self, registry: Registry, config: JobifyConfiguration) -> None:
        self._registry = registry
        self._config = config

    def __call__(self) -> str:
        return self._code

    @cached_property
    def _code(self) -> str:
        config = self._config
        kinds = (type(config.serializer), type(config.dumper), type(config.loader))
        settings = [f"{kind.__module__}:{kind.__qualname__}" for kind in kinds]
        serializer = config.serializer
        types = serializer.known_types() if isinstance(serializer, ExtendedJSONSerializer) else []
        types += config.renamed_types.items()
        try:
            return app_code([(each.name, each.func) for each in endpoints_of(self._registry)], types, settings)
        except Exception as error:
            log.warning("The code of the app has no fingerprint, because it cannot be inspected: %r", error)
            return os.urandom(16).hex()


# -- results as bytes --------------------------------------------------------------------------------------------------

Encoded: TypeAlias = tuple[bytes | None, str | None]
"""The result as it is stored, and why it could not be encoded."""


def takes_long(attempt: Attempt, value: Any) -> bool:
    """Whether encoding this result would hold up the event loop."""
    return not (type(value) in SMALL or attempt.backend.is_in_memory) and is_large((value,))


def encode_in_thread(attempt: Attempt, outcome: Outcome, go_on: Callable[[Encoded], None]) -> None:
    """:func:`encode` in a thread, which calls ``go_on`` on the event loop."""

    def finish(encoded: Encoded | None, error: BaseException | None) -> None:
        go_on(encoded or (None, f"{type(error).__name__}: {shown(error)}"))

    in_thread(partial(encode, attempt, outcome), finish)


def encode(attempt: Attempt, outcome: Outcome) -> Encoded:
    """Encode the result, if there is one."""
    if type(outcome) is not Succeeded:
        return None, None
    try:
        return attempt.backend.codec.encode_result(outcome.value, attempt.endpoint.spec.result_type), None
    except Exception as error:  # PayloadError, or any error of a user's serializer or values
        log.warning("The result of job %s is not stored: %s", attempt.id, shown(error))
        return None, str(error) if isinstance(error, PayloadError) else f"{type(error).__name__}: {shown(error)}"
