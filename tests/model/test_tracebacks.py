"""What people see of an error: their own frames, their own chains."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from jobify.exceptions import JobTimeoutError, PayloadError
from jobify.jobs.context import JobContext
from jobify.middleware.timeout import TimeoutMiddleware
from jobify.model.tracebacks import own_traceback
from jobify.runners import protocol
from jobify.runners.base import contained
from jobify.runners.protocol import Request


def caught(function: Callable[[], Any]) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("it raised nothing")


def plain() -> None:
    raise ValueError("plain")


def chained() -> None:
    try:
        raise KeyError("first")
    except KeyError as error:
        raise ValueError("second") from error


def handling() -> None:
    try:
        raise KeyError("first")
    except KeyError:
        raise ValueError("second")  # noqa: B904  what is tested


def hiding() -> None:
    try:
        raise KeyError("first")
    except KeyError:
        raise ValueError("second") from None


def grouped() -> None:
    raise ExceptionGroup("several", [caught(chained), caught(plain)])  # type: ignore[type-var]


def test_an_error_shows_where_it_was_raised() -> None:
    text = own_traceback(caught(plain))
    assert text.startswith("Traceback (most recent call last):\n")
    assert 'in plain\n    raise ValueError("plain")' in text
    assert text.endswith("\nValueError: plain\n")


def test_frames_of_the_library_and_of_the_plumbing_are_left_out() -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        text = own_traceback(caught(lambda: asyncio.run(asyncio.wait_for(_in_thread(pool), 60))))
    assert "in plain" in text
    assert "/asyncio/" not in text
    assert "/concurrent/" not in text


async def _in_thread(pool: concurrent.futures.Executor) -> None:
    await asyncio.get_running_loop().run_in_executor(pool, plain)


def test_the_users_own_chains_stay() -> None:
    text = own_traceback(caught(chained))
    assert text.index("KeyError: 'first'") < text.index("direct cause") < text.index("ValueError: second")
    assert "During handling" in own_traceback(caught(handling))
    assert "first" not in own_traceback(caught(hiding))


def test_an_error_that_was_never_raised_may_be_a_cause() -> None:
    def raises() -> None:
        raise ValueError("second") from KeyError("first")

    assert "KeyError: 'first'" in own_traceback(caught(raises))


def test_a_group_shows_its_parts_and_their_causes() -> None:
    text = own_traceback(caught(grouped))
    assert "several" in text
    assert "KeyError: 'first'" in text
    assert "direct cause" in text
    assert "ValueError: plain" in text


def raised_in_a_task(steps: Coroutine[Any, Any, Any]) -> BaseException:
    """What ``steps`` raise where nobody else's frames are around them."""

    async def main() -> BaseException | None:
        task = asyncio.ensure_future(steps)
        await asyncio.wait([task])
        return task.exception()

    error = asyncio.run(main())
    assert error is not None
    return error


async def slow() -> None:
    await asyncio.sleep(60)


def test_a_timeout_points_to_where_the_task_was() -> None:
    async def call_next(_: JobContext) -> None:
        await slow()

    context: Any = SimpleNamespace(job=SimpleNamespace(id="a"))
    error = raised_in_a_task(TimeoutMiddleware(0.001)(call_next, context))
    assert isinstance(error, JobTimeoutError)
    text = own_traceback(error)
    assert "in slow\n" in text
    assert text.endswith(f"JobTimeoutError: {error}\n")
    assert text.count("Error") == 1
    assert text.count("Traceback") == 1


def test_an_error_of_the_library_without_frames_is_its_text() -> None:
    async def sends() -> None:
        protocol.encode_request(Request(None, (lambda: 1,), {}))  # type: ignore[arg-type]

    error = raised_in_a_task(sends())
    assert isinstance(error, PayloadError)
    assert own_traceback(error).count("Traceback") == 1
    assert own_traceback(error).endswith(f"jobify.exceptions.PayloadError: {error}\n")


@pytest.mark.parametrize("function", [plain, chained])
def test_an_error_of_a_child_process_shows_the_frames_it_had_there(function: Callable[[], Any]) -> None:
    there = caught(function)
    here = caught(lambda: protocol.outcome(protocol.encode_error(there)))
    assert own_traceback(here) == own_traceback(there)


def test_what_a_child_raised_may_be_the_cause_of_something_else() -> None:
    def goes_on() -> None:
        try:
            protocol.outcome(protocol.encode_error(caught(plain)))
        except ValueError as error:
            raise RuntimeError("gave up") from error

    text = own_traceback(caught(goes_on))
    assert text.index("in plain") < text.index("direct cause") < text.index("in goes_on")
    assert text.endswith("RuntimeError: gave up\n")


def test_what_would_end_the_process_shows_its_own_frames() -> None:
    def leaves() -> None:
        raise SystemExit(3)

    wrapper = contained(caught(leaves))
    assert "SystemExit: 3" in own_traceback(wrapper)


def test_a_long_chain_is_no_recursion() -> None:
    error: BaseException = ValueError(0)
    for number in range(3000):
        following = ValueError(number)
        following.__cause__ = error
        error = following
    assert own_traceback(error).count("direct cause") == 3000
