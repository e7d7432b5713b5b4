"""The delays of a retry policy, and which failures it retries."""

from __future__ import annotations

import asyncio
import math
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobify.exceptions import ConfigurationError, JobTimeoutError, NoResultError
from jobify.model.retry import SmartRetry, as_retry, should_retry


@pytest.mark.promise("rule-9")
def test_the_defaults() -> None:
    assert tuple(SmartRetry(3)) == (3, 0.5, 60.0, 2.0, True, (Exception,), ())


def test_it_is_an_immutable_named_tuple() -> None:
    policy = SmartRetry(retries=3, jitter=False)
    assert policy._fields == (
        "retries",
        "initial_delay",
        "max_delay",
        "backoff_factor",
        "jitter",
        "include_exceptions",
        "exclude_exceptions",
    )
    retries, *_ = policy
    assert retries == 3
    assert policy == SmartRetry(3, 0.5, 60.0, 2.0, False)
    assert len({policy, SmartRetry(3, jitter=False)}) == 1
    assert policy._replace(retries=5) == SmartRetry(5, jitter=False)
    assert isinstance(policy._replace(retries=5), SmartRetry)
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert repr(policy).startswith("SmartRetry(retries=3, initial_delay=0.5")
    for name in ("retries", "another"):
        with pytest.raises(AttributeError):
            setattr(policy, name, 1)


@pytest.mark.parametrize(
    ("options", "delays"),
    [
        ({}, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]),
        ({"backoff_factor": 1.0}, [0.5, 0.5, 0.5]),
        ({"initial_delay": 0}, [0.0, 0.0, 0.0]),
        ({"max_delay": 0}, [0.0, 0.0]),
        ({"initial_delay": 90}, [60.0, 60.0]),
        ({"backoff_factor": 0}, [0.5, 0.0, 0.0]),
        ({"initial_delay": 8, "backoff_factor": 0.5}, [8.0, 4.0, 2.0]),
    ],
)
def test_delays_grow_up_to_the_maximum(options: dict[str, Any], delays: list[float]) -> None:
    policy = SmartRetry(retries=9, jitter=False, **options)
    assert [policy.compute_delay(attempt) for attempt in range(1, len(delays) + 1)] == delays


@pytest.mark.promise("b44")
@pytest.mark.parametrize("attempt", [1100, 10**9])
@pytest.mark.parametrize("factor", [2, 2.0, 1e300])
@pytest.mark.parametrize("initial_delay", [0, 0.5, 1e308])
def test_no_attempt_is_too_late_to_reckon(attempt: int, factor: float, initial_delay: float) -> None:
    policy = SmartRetry(retries=2000, initial_delay=initial_delay, backoff_factor=factor)
    assert policy.base_delay(attempt) == (60.0 if initial_delay else 0.0)
    assert math.isfinite(policy.compute_delay(attempt))


_amounts = st.floats(0, 1e6)


@settings(deadline=None)
@given(initial=_amounts, most=_amounts, factor=st.floats(0, 100), attempt=st.integers(-1, 5000))
def test_jitter_stays_in_the_upper_half(initial: float, most: float, factor: float, attempt: int) -> None:
    policy = SmartRetry(9, initial, most, factor)
    delay = policy.base_delay(attempt)
    assert 0 <= delay <= most
    assert delay / 2 <= policy.compute_delay(attempt) <= delay


def test_jitter_spreads() -> None:
    policy = SmartRetry(retries=3)
    assert len({policy.compute_delay(3) for _ in range(20)}) > 1


@pytest.mark.promise("x6")
@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"retries": -1}, "Write 0 for none"),
        ({"retries": True}, "whole number"),
        ({"retries": 1.5}, "whole number"),
        ({"retries": "3"}, "whole number"),
        ({"retries": None}, "whole number"),
        ({"initial_delay": -0.5}, "not negative"),
        ({"initial_delay": math.nan}, "finite"),
        ({"initial_delay": "1"}, "not a number"),
        ({"initial_delay": 10**400}, "finite"),
        ({"max_delay": math.inf}, "finite"),
        ({"max_delay": True}, "not a number"),
        ({"max_delay": None}, "not a number"),
        ({"backoff_factor": -2}, "not negative"),
        ({"backoff_factor": -math.inf}, "finite"),
        ({"jitter": 1}, "True or False"),
        ({"include_exceptions": ValueError}, "a tuple of exception classes"),
        ({"include_exceptions": (ValueError, "KeyError")}, "a tuple of exception classes"),
        ({"exclude_exceptions": (int,)}, "a tuple of exception classes"),
        ({"exclude_exceptions": "ValueError"}, "a tuple of exception classes"),
        ({"exclude_exceptions": (ValueError(),)}, "a tuple of exception classes"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_written(options: dict[str, Any], hint: str) -> None:
    with pytest.raises(ConfigurationError, match=hint):
        SmartRetry(**{"retries": 3, **options})
    with pytest.raises(ConfigurationError, match=hint):
        SmartRetry(retries=3)._replace(**options)


def test_a_list_of_exceptions_becomes_a_tuple() -> None:
    assert SmartRetry(1, include_exceptions=[ValueError]).include_exceptions == (ValueError,)  # type: ignore[arg-type]


def test_the_option_is_a_number_or_a_policy() -> None:
    policy = SmartRetry(2, jitter=False)
    assert as_retry(policy) is policy
    assert as_retry(None) is None
    assert as_retry(2) == SmartRetry(retries=2)
    assert as_retry(0) == SmartRetry(retries=0)


@pytest.mark.promise("b44")
@pytest.mark.parametrize("value", [-5, True, False, 1.0, "3", (3,), math.inf])
def test_an_option_that_cannot_be_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"retry="):
        as_retry(value)


@pytest.mark.promise("rule-9")
@pytest.mark.parametrize(("attempt", "expected"), [(1, True), (2, True), (3, False), (4, False)])
def test_n_retries_are_n_plus_one_attempts(attempt: int, expected: bool) -> None:
    assert should_retry(SmartRetry(retries=2), ValueError(), attempt) is expected


def test_without_a_policy_there_is_no_retry() -> None:
    assert not should_retry(None, ValueError(), 1)
    assert not should_retry(SmartRetry(retries=0), ValueError(), 1)


class _SpecialNoResultError(NoResultError): ...


@pytest.mark.parametrize(
    ("error", "options", "expected"),
    [
        (ValueError(), {}, True),
        (JobTimeoutError("job", 1.0), {}, True),
        (NoResultError(), {}, False),
        (_SpecialNoResultError(), {"include_exceptions": (NoResultError,)}, False),
        (KeyboardInterrupt(), {}, False),
        (SystemExit(1), {}, False),
        (asyncio.CancelledError(), {}, False),
        (SystemExit(1), {"include_exceptions": (SystemExit,)}, True),
        (ValueError(), {"include_exceptions": (OSError,)}, False),
        (ConnectionError(), {"include_exceptions": (OSError,)}, True),
        (ConnectionError(), {"exclude_exceptions": (OSError,)}, False),
        (ConnectionError(), {"include_exceptions": (ConnectionError,), "exclude_exceptions": (OSError,)}, False),
        (ValueError(), {"include_exceptions": ()}, False),
    ],
)
def test_which_errors_are_retried(error: BaseException, options: dict[str, Any], expected: bool) -> None:
    assert should_retry(SmartRetry(retries=2, **options), error, 1) is expected
