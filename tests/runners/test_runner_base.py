"""The port: what a call knows about itself, and what an error may do."""

from __future__ import annotations

import asyncio

import pytest

from jobify.exceptions import TaskExitError
from jobify.runners.base import FunctionCall, contained


async def test_a_call_that_never_began_has_ended() -> None:
    call = FunctionCall(print)
    assert not call.is_running
    call.end()
    await call.ended()


async def test_everybody_who_waits_for_the_end_is_told() -> None:
    call = FunctionCall(print)
    call.begin()
    assert call.is_running
    waiters = [asyncio.create_task(call.ended()) for _ in range(3)]
    waiters.append(asyncio.create_task(call.ended()))
    await asyncio.sleep(0)
    waiters.pop().cancel()  # one that gives up takes nothing from the others
    await asyncio.sleep(0)
    assert not any(waiter.done() for waiter in waiters)
    call.end()
    call.end()
    await asyncio.gather(*waiters)
    assert not call.is_running


def test_a_call_is_shown_by_the_name_of_its_function() -> None:
    assert repr(FunctionCall(test_a_call_is_shown_by_the_name_of_its_function)) == (
        "<FunctionCall test_a_call_is_shown_by_the_name_of_its_function>"
    )
    assert repr(FunctionCall(asyncio.run)) == "<FunctionCall run>"


@pytest.mark.parametrize("error", [ValueError("x"), OSError(2, "y"), StopAsyncIteration()])
def test_an_ordinary_error_stays_itself(error: Exception) -> None:
    assert contained(error) is error


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError(), StopIteration(4)]
)
def test_what_would_end_more_than_the_attempt_is_wrapped(error: BaseException) -> None:
    wrapped = contained(error)
    assert isinstance(wrapped, TaskExitError)
    assert wrapped.__cause__ is error
    assert repr(error) in str(wrapped)
