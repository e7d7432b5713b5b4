"""Retry policies: pure functions of the policy, the error and the attempt."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

from jobify.exceptions import ConfigurationError, NoResultError
from jobify.model.control_flow import all_match, any_matches
from jobify.model.durations import Duration, as_seconds

__all__ = ("SmartRetry", "applies_to", "as_retry", "should_retry")


class _SmartRetry(NamedTuple):
    retries: int
    initial_delay: float = 0.5
    max_delay: float = 60.0
    backoff_factor: float = 2.0
    jitter: bool = True
    include_exceptions: tuple[type[BaseException], ...] = (Exception,)
    exclude_exceptions: tuple[type[BaseException], ...] = ()


class SmartRetry(_SmartRetry):
    """A retry policy: the number of retries, and their delays.

    Immutable, and safe to share between threads.

    ``retries``
        Attempts after the first; 0 is none.
    ``initial_delay``, ``max_delay``, ``backoff_factor``
        Seconds (or a timedelta) before the first retry, the longest delay, and the factor from one delay to the next:
        2.0 doubles it, 1.0 keeps it.
    ``jitter``
        Spread each delay over the upper half of its length, so that jobs that failed together do not retry together
        ("equal jitter", as in the AWS architecture blog's "Exponential Backoff And Jitter").
    ``include_exceptions``, ``exclude_exceptions``
        The errors to retry, and those never to retry, which take priority. Both match inside exception groups, at any
        depth: a group is retried if *every* error in it would be, so one excluded error (or NoResultError) is enough
        to end the job. A BaseException that is no Exception (``sys.exit()``, a stray CancelledError) becomes a
        TaskExitError, which is an Exception; its cause can be named here as well.

    >>> policy = SmartRetry(retries=5, initial_delay=1, jitter=False)
    >>> [policy.compute_delay(attempt) for attempt in (1, 2, 3, 1100)]
    [1.0, 2.0, 4.0, 60.0]

    Raises:
        ConfigurationError: (a ValueError) a number is negative, not finite or no number, or an exception is no class.
    """

    __slots__ = ()

    def __new__(
        cls,
        retries: int,
        initial_delay: Duration = 0.5,
        max_delay: Duration = 60.0,
        backoff_factor: float = 2.0,
        jitter: bool = True,
        include_exceptions: tuple[type[BaseException], ...] = (Exception,),
        exclude_exceptions: tuple[type[BaseException], ...] = (),
    ) -> SmartRetry:
        if not isinstance(jitter, bool):
            raise ConfigurationError(f"SmartRetry(jitter={jitter!r}): it is either True or False.")
        return super().__new__(
            cls,
            _count(retries, "SmartRetry(retries=...)"),
            _number(as_seconds(initial_delay), "initial_delay"),
            _number(as_seconds(max_delay), "max_delay"),
            _number(backoff_factor, "backoff_factor"),
            jitter,
            _exceptions(include_exceptions, "include_exceptions"),
            _exceptions(exclude_exceptions, "exclude_exceptions"),
        )

    # the stubs call it final; it is the one way by which ``_replace`` makes its copy, which must be checked as well
    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> SmartRetry:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        return cls(*iterable)

    def compute_delay(self, attempt: int) -> float:
        """Seconds to wait after the failure of ``attempt`` (the first is 1), with ``jitter`` if it is on."""
        delay = self.base_delay(attempt)
        return random.uniform(delay / 2, delay) if self.jitter else delay

    def base_delay(self, attempt: int) -> float:
        """``compute_delay`` without the jitter: the initial delay, multiplied once per retry, up to the maximum."""
        try:
            growth = float(self.backoff_factor) ** max(attempt - 1, 0)
        except OverflowError:
            growth = math.inf
        # 0 * inf is no number: nothing grows from no delay
        return float(min(self.initial_delay * growth, self.max_delay)) if self.initial_delay else 0.0


def as_retry(value: int | SmartRetry | None) -> SmartRetry | None:
    """The policy of the option ``retry=``: a policy as it is, a number n as ``SmartRetry(retries=n)``, None as None.

    Raises:
        ConfigurationError: it is neither, or a negative number.
    """
    if value is None or isinstance(value, SmartRetry):
        return value
    return SmartRetry(retries=_count(value, "retry=..."))


def should_retry(policy: SmartRetry | None, error: BaseException, attempt: int) -> bool:
    """Whether the failure of ``attempt`` (the first is 1) with ``error`` is followed by another attempt."""
    return policy is not None and attempt <= policy.retries and applies_to(policy, error)


def applies_to(policy: SmartRetry | None, error: BaseException) -> bool:
    """Whether the policy retries ``error``, even if its retries are used up."""
    if policy is None or not policy.retries:
        return False
    if any_matches(error, (NoResultError, *policy.exclude_exceptions)):
        return False
    return all_match(error, policy.include_exceptions)


def _count(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigurationError(
            f"{where}: {value!r} is not a number of retries. Write a whole number, or a SmartRetry."
        )
    if value < 0:
        raise ConfigurationError(f"{where}: {value} is negative. Write 0 for none.")
    return value


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigurationError(f"SmartRetry({name}={value!r}): it is not a number. Write seconds, as in 0.5.")
    if not 0 <= value <= sys.float_info.max:  # nor is NaN
        raise ConfigurationError(f"SmartRetry({name}={value!r}): write a finite number that is not negative.")
    return value


def _exceptions(value: object, name: str) -> tuple[type[BaseException], ...]:
    found = tuple(value) if isinstance(value, tuple | list | set | frozenset) else ()
    if not isinstance(value, tuple | list | set | frozenset) or not all(map(_is_exception, found)):
        raise ConfigurationError(
            f"SmartRetry({name}={value!r}): write a tuple of exception classes, as in (ConnectionError, TimeoutError)."
        )
    return found


def _is_exception(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)
