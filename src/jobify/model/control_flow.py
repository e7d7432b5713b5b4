"""``raise Retry(...)`` and ``raise Snooze(...)``: a task requests another attempt instead of returning.

::

    from jobify import Retry, Snooze

    @app.task(retry=5)
    async def sync(account: str) -> None:
        answer = await fetch(account)
        if answer.status == 429:
            raise Retry(answer.retry_after, "too many requests")  # this attempt counts
        if answer.status == 202:
            raise Snooze(timedelta(minutes=5), "the report is not ready")  # this one does not

Neither is an error: exception handlers and retry policies do not see them. Middleware does, like every exception, and
should let them pass. A task may raise them anywhere, in every run mode; so may middleware and exception handlers. An
exception group that contains nothing else requests what its members request.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeVar

from jobify.exceptions import ConfigurationError, RemoteError, TaskExitError
from jobify.model.durations import Duration, check_duration
from jobify.runtime.errortools import cause_of, context_of, described, restored

__all__ = (
    "SIGNALS",
    "RateLimited",
    "Retry",
    "Snooze",
    "all_match",
    "any_matches",
    "class_address",
    "named",
    "parts",
    "signal_of",
)


# -- exception groups --------------------------------------------------------------------------------------------------
# Match exceptions inside exception groups and TaskExitErrors.
#
# Policies, handlers and timeouts match errors by type. ``asyncio.TaskGroup`` raises a group, and a task that raises
# SystemExit fails with a :class:`~jobify.exceptions.TaskExitError`; these functions look inside both. They do not use
# recursion, because groups may be nested deeper than the stack.


def parts(error: BaseException) -> Iterator[BaseException]:
    """``error`` itself, then everything inside it."""
    left = [error]
    while left:
        part = left.pop()
        yield part
        left += _inside(part)


def any_matches(error: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    """Whether ``error``, or anything inside it, is one of ``kinds``."""
    return any(_is_one_of(part, kinds) for part in parts(error))


def all_match(error: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    """Whether ``error`` is one of ``kinds``, or is a group whose members all match."""
    left = [error]
    while left:
        part = left.pop()
        if _is_one_of(part, kinds):
            continue
        inside = _inside(part)
        if not inside:
            return False
        left += inside
    return True


def class_address(kind: type) -> str:
    """The name that a class has in every process of a program."""
    module = "__main__" if kind.__module__ == "__mp_main__" else kind.__module__
    return f"{module}:{kind.__qualname__}"


def _is_one_of(error: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    """Whether ``error``, or the original in another process, is one of ``kinds``."""
    if isinstance(error, kinds):
        return True
    return isinstance(error, RemoteError) and any(class_address(kind) in error.bases for kind in kinds)


def _inside(error: BaseException) -> tuple[BaseException, ...]:
    if isinstance(error, BaseExceptionGroup):
        return error.exceptions
    if isinstance(error, TaskExitError) and error.__cause__ is not None:
        return (error.__cause__,)
    return ()


# -- control flow ------------------------------------------------------------------------------------------------------

_LONGEST: Final = 1e9
"""The longest delay in seconds: thirty years, which can be added to any date."""
_DEFAULT_REASON: Final = "requested by the task"


class _Signal(Exception):
    message: str | None

    def __init__(self, message: str | None, cause: BaseException | None) -> None:
        name = type(self).__name__
        if message is not None and not isinstance(message, str):
            raise ConfigurationError(f"The message of {name} is {message!r}; it must be a text.")
        if cause is not None and not isinstance(cause, BaseException):
            raise ConfigurationError(f"The cause of {name} is {cause!r}; it must be an exception.")
        super().__init__(message or _DEFAULT_REASON)
        self.message = message
        if cause is not None:
            self.__cause__ = cause

    @property
    def reason(self) -> str | None:
        """The message; without one, the exception that led here (``raise ... from``, or within ``except``)."""
        if self.message is not None:
            return self.message or None
        cause = cause_of(self) or (None if self.__suppress_context__ else context_of(self))
        return None if cause is None else described(cause)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by content and with the reason, because the cause may not be picklable."""
        return restored, (type(self), self.args, {**self.__dict__, "message": self.reason or ""})


class Retry(_Signal):
    """End this attempt and make another one after ``delay``. Raise it in a task.

    ``delay``
        Seconds, or a timedelta. None means the delay of the task's retry policy.
    ``message``, ``cause``
        Why, for the log and the history of the job; ``raise Retry(...) from error`` says the cause, too.

    The attempt counts against the number of retries in ``retry=`` of the task or the job. The errors that this policy
    includes or excludes do not matter here. When no retries are left, the job ends with a
    :class:`~jobify.exceptions.NoRetriesLeftError`, which names the reason. Hooks of ``on_retry`` get the exception.

    The constructor raises ConfigurationError (a ValueError) if the delay is negative, not finite, longer than thirty
    years or no duration.

    ::

        raise Retry(delay=30, message="the shop is closed")
    """

    def __init__(
        self, delay: Duration | None = None, message: str | None = None, *, cause: BaseException | None = None
    ) -> None:
        self.delay: float | None = None if delay is None else _checked(delay, "Retry")
        super().__init__(message, cause)


class Snooze(_Signal):
    """Postpone the job: it runs again after ``delay``.

    Raise it in a task. The attempt does not count.

    ``delay``
        Seconds, or a timedelta.
    ``message``, ``cause``
        Why, for the log and the note of the job; ``raise Snooze(...) from error`` says the cause, too.

    The attempt leaves no line in the history, and no hook is called. A job may snooze any number of times, until it
    expires (``expires=``), is cancelled, or ends in another way. A run of a schedule stays the same run, even if it is
    late.

    The constructor raises ConfigurationError (a ValueError) if the delay is negative, not finite, longer than thirty
    years or no duration.

    ::

        raise Snooze(timedelta(minutes=5), "the report is not ready")
    """

    def __init__(self, delay: Duration, message: str | None = None, *, cause: BaseException | None = None) -> None:
        self.delay: float = _checked(delay, "Snooze")
        super().__init__(message, cause)


class RateLimited(Snooze):
    """Postpone the job because a third party wants fewer calls: it runs again after ``retry_after``.

    Raise it in a task. It is a :class:`Snooze` that also closes the keys of the job's rates (``limits=[Rate(...)]``)
    until then, for all jobs and all workers.

    ``retry_after``
        Seconds, or a timedelta.
    ``message``, ``cause``
        As those of :class:`Snooze`.

    ::

        if answer.status == 429:
            raise RateLimited(retry_after=float(answer.headers["Retry-After"]))
    """

    def __init__(
        self, retry_after: Duration, message: str | None = None, *, cause: BaseException | None = None
    ) -> None:
        super().__init__(retry_after, message or "rate limited", cause=cause)


SIGNALS: Final = (Retry, Snooze)
SignalT = TypeVar("SignalT", Retry, Snooze)


def signal_of(error: BaseException) -> Retry | Snooze | None:
    """The request in ``error``. None if it is an ordinary error.

    Of several in a group, a Retry goes before a Snooze, and the longest delay before others.
    """
    if isinstance(error, SIGNALS):
        return error
    if not isinstance(error, BaseExceptionGroup) or not all_match(error, SIGNALS):
        return None
    found = [part for part in parts(error) if isinstance(part, SIGNALS)]
    return max(found, key=lambda signal: (isinstance(signal, Retry), signal.delay or 0.0))


def named(signal: SignalT) -> SignalT:
    """``signal`` with its reason as its text, for the log and the history.

    The text is an attribute instead of a ``__str__`` method, so that the exception needs no code of its own to be shown
    (:mod:`jobify.runtime.errortools`).
    """
    reason = signal.reason
    if reason is not None:
        signal.args = (reason,)
    return signal


def _checked(delay: Any, name: str) -> float:
    duration = check_duration(delay, what=f"delay of {name}")
    if duration > _LONGEST:
        raise ConfigurationError(f"The delay of {name} is {duration:g} seconds; it must be thirty years at most.")
    return duration
