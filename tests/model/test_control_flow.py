"""``Retry`` and ``Snooze`` as values: what they refuse, what they say, how they travel."""

from __future__ import annotations

import pickle
from datetime import timedelta
from typing import Any

import pytest

from jobify import BaseJobifyError, ConfigurationError, Retry, Snooze
from jobify.model.control_flow import named, signal_of
from jobify.runners.remote_errors import describe, rebuild

BAD = [-1, -0.001, float("nan"), float("inf"), 1e10, 10**400, True, "30", b"30", [1], timedelta(seconds=-1)]


@pytest.mark.parametrize("kind", [Retry, Snooze])
@pytest.mark.parametrize("delay", BAD, ids=repr)
def test_a_delay_that_cannot_be_is_refused_where_it_is_written(kind: Any, delay: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"The delay of {kind.__name__} is "):
        kind(delay)


@pytest.mark.parametrize("kind", [Retry, Snooze])
def test_seconds_and_timedeltas_are_taken(kind: Any) -> None:
    assert [kind(delay).delay for delay in (0, 1.5, timedelta(minutes=1), 1e9)] == [0.0, 1.5, 60.0, 1e9]


def test_a_snooze_needs_a_delay_and_a_retry_does_not() -> None:
    assert Retry().delay is None
    with pytest.raises(TypeError):
        Snooze()  # type: ignore[call-arg]  # which is what is tested
    with pytest.raises(ConfigurationError, match="The delay of Snooze is None"):
        Snooze(None)  # type: ignore[arg-type]  # which is what is tested


@pytest.mark.parametrize("kind", [Retry, Snooze])
def test_message_and_cause_are_checked(kind: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"message of \w+ is 7; it must be a text"):
        kind(1, 7)
    with pytest.raises(ConfigurationError, match=r"cause of \w+ is 'x'; it must be an exception"):
        kind(1, cause="x")


def test_neither_is_an_error_of_the_library() -> None:
    assert not issubclass(Retry, BaseJobifyError)
    assert not issubclass(Snooze, BaseJobifyError)


def raised(make: Any) -> Any:
    try:
        try:
            raise ConnectionError("closed")
        except ConnectionError as error:
            make(error)
    except (Retry, Snooze) as signal:
        return signal


def from_error(error: Exception) -> None:
    raise Retry(1) from error


def in_context(error: Exception) -> None:
    raise Snooze(1)


def by_keyword(error: Exception) -> None:
    raise Retry(1, cause=error)


def with_message(error: Exception) -> None:
    raise Retry(1, "too many") from error


def from_none(error: Exception) -> None:
    raise Retry(1) from None


REASONS: dict[Any, str | None] = {
    from_error: "ConnectionError: closed",
    in_context: "ConnectionError: closed",
    by_keyword: "ConnectionError: closed",
    with_message: "too many",
    from_none: None,
}


@pytest.mark.parametrize("make", REASONS, ids=lambda make: make.__name__)
def test_the_reason_is_the_message_or_what_led_here(make: Any) -> None:
    signal = raised(make)
    assert signal.reason == REASONS[make]
    assert str(named(signal)) == (REASONS[make] or "requested by the task")


@pytest.mark.parametrize("make", REASONS, ids=lambda make: make.__name__)
def test_the_reason_travels(make: Any) -> None:
    signal = raised(make)
    for arrived in (pickle.loads(pickle.dumps(signal)), rebuild(describe(signal))):
        assert type(arrived) is type(signal)
        assert (arrived.delay, arrived.reason) == (1.0, REASONS[make])


def test_a_group_asks_for_what_its_members_ask_for() -> None:
    short, long, retry = Snooze(1), Snooze(2), Retry(0.5)
    assert signal_of(short) is short
    assert signal_of(ExceptionGroup("", [short, ExceptionGroup("", [long])])) is long
    assert signal_of(ExceptionGroup("", [long, retry, short])) is retry
    assert signal_of(ExceptionGroup("", [long, ValueError()])) is None
    assert signal_of(ValueError()) is None
