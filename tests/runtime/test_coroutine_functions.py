"""What is awaited is a coroutine function to frameworks; what a push hands out is taken by all of asyncio."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from unittest import mock

import pytest
from starlette._utils import is_async_callable
from starlette.background import BackgroundTask, BackgroundTasks

from jobify import Job, Jobify
from jobify.exceptions import ConfigurationError
from support import durable

pytestmark = pytest.mark.promise("f35")

app = Jobify(storage=False)
ran: list[str] = []


@app.task
async def send(to: str) -> str:
    ran.append(to)
    return to


@app.task
def count(text: str) -> int:
    ran.append(text)
    return len(text)


class Caller:
    async def __call__(self, to: str) -> str:
        return to


called = app.task(Caller(), name="an object")
partly = app.task(functools.partial(send.func, to="Ada"), name="a partial")

ASKED: list[Callable[[Any], bool]] = [inspect.iscoroutinefunction, asyncio.iscoroutinefunction, is_async_callable]


def awaited() -> list[Any]:
    builder = send.schedule("Ada")
    return [
        *(send.push, count.push, called.push, type(send).push, functools.partial(send.push, "Ada")),
        *(builder.push, builder.delay, builder.at, builder.cron),
        *(send.adelay, send.aapply_async, send.amap),
        *(send, called, partly, functools.partial(send, "Ada")),
    ]


@pytest.mark.parametrize("is_coroutine_function", ASKED)
async def test_what_is_awaited_is_a_coroutine_function(is_coroutine_function: Any) -> None:
    async with app:
        for function in awaited():
            assert is_coroutine_function(function), function
        for plain in (count, send.delay, send.apply_async, send.map, send.schedule, send.s):
            assert not is_coroutine_function(plain), plain


def test_tasks_keep_their_signatures() -> None:
    assert str(inspect.signature(send)) == "(to: 'str') -> 'str'"
    assert list(inspect.signature(called).parameters) == ["to"]
    assert send.__name__ == "send"


async def test_background_tasks_run_the_job() -> None:
    ran.clear()

    async with app:
        background = BackgroundTasks([BackgroundTask(functools.partial(send.push, "partial"))])
        background.add_task(send.push, "push")
        background.add_task(count.push, "count")
        background.add_task(send, "call")
        background.add_task(count, "thread")
        background.add_task(send.schedule("delay").delay, 0)
        background.add_task(send.schedule("at").at, datetime.now(UTC))
        background.add_task(send.schedule("schedule").push)
        background.add_task(send.delay, "plain")
        await background()
        await app.wait_all(30)
    assert sorted(ran) == sorted(
        ["partial", "push", "count", "call", "thread", "delay", "at", "schedule", "plain"],
    )


async def test_anyio_starts_a_push() -> None:
    anyio = pytest.importorskip("anyio")
    ran.clear()

    async with app:
        async with anyio.create_task_group() as group:
            group.start_soon(send.push, "started")
        await anyio.to_thread.run_sync(lambda: anyio.from_thread.run(send.push, "from a thread"))
        await app.wait_all(30)
    assert sorted(ran) == ["from a thread", "started"]


@pytest.mark.parametrize("autospec", [None, True])
async def test_a_mock_of_a_push_can_be_awaited(autospec: Any) -> None:
    async with app:
        builder = type(send.schedule("Ada"))
        for target, name in ((send, "push"), (count, "push"), (builder, "delay"), (builder, "at")):
            with mock.patch.object(target, name, autospec=autospec, return_value="sent"):
                call = getattr(send.schedule("Ada") if target is builder else target, name)
                assert await call("Ada") == "sent"
        with mock.patch.object(send, "delay", autospec=autospec, return_value="sent"):
            assert send.delay("Ada") == "sent"  # type: ignore[comparison-overlap]
    assert not {"push", "delay"} & set(vars(send))


async def test_a_mock_of_a_whole_task() -> None:
    with mock.patch(f"{__name__}.send", autospec=True) as double:
        double.return_value, double.push.return_value, double.delay.return_value = 1, 2, 3
        assert await send("Ada") == 1  # type: ignore[comparison-overlap]
        assert await send.push("Ada") == 2  # type: ignore[comparison-overlap]
        assert send.delay("Ada") == 3  # type: ignore[comparison-overlap]
    with mock.patch(f"{__name__}.count", autospec=True) as double:
        double.return_value, double.push.return_value = 1, 2
        assert count("Ada") == 1
        assert await count.push("Ada") == 2  # type: ignore[comparison-overlap]


# -- what a push hands out ---------------------------------------------------------------------------------------------

Push = Callable[[int], Awaitable[Job[int]]]


async def waited(push: Push) -> list[Job[int]]:
    done, _ = await asyncio.wait([asyncio.ensure_future(push(1)), asyncio.ensure_future(push(2))])
    return [each.result() for each in done]


async def waited_tasks(push: Any) -> list[Job[int]]:
    done, _ = await asyncio.wait([asyncio.create_task(push(1)), asyncio.create_task(push(2))])
    return [each.result() for each in done]


async def completed(push: Push) -> list[Job[int]]:
    return [await each for each in asyncio.as_completed([push(1), push(2)])]


async def gathered(push: Push) -> list[Job[int]]:
    futures = [asyncio.ensure_future(push(1)), asyncio.ensure_future(push(2))]
    return await asyncio.gather(*futures)


async def shielded(push: Push) -> list[Job[int]]:
    return [await asyncio.shield(push(1)), await asyncio.wait_for(push(2), 30)]


async def grouped(push: Any) -> list[Job[int]]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(push(number)) for number in (1, 2)]
    return [task.result() for task in tasks]


async def asked_in_the_middle(push: Any) -> list[Job[int]]:
    """Whoever asks whether it is a future takes it from no task that runs it."""
    pushed = [push(1), push(2)]
    tasks = [asyncio.create_task(each) for each in pushed]
    await asyncio.sleep(0)
    assert all(map(asyncio.isfuture, pushed))
    return [await task for task in tasks]


async def asked_before(push: Push) -> list[Job[int]]:
    pushed: list[Any] = [push(1), push(2)]
    assert all(map(asyncio.iscoroutine, pushed))
    assert all(map(inspect.isawaitable, pushed))
    assert all(map(asyncio.isfuture, pushed))
    assert all(map(inspect.isawaitable, pushed))
    return [await each for each in pushed]


WAYS = [waited, waited_tasks, completed, gathered, shielded, grouped, asked_in_the_middle, asked_before]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("in_memory", [True, False])
async def test_asyncio_takes_what_a_push_hands_out(way: Any, in_memory: bool, tmp_path: Any) -> None:
    jobs = Jobify(storage=False) if in_memory else Jobify(storage=durable(tmp_path))

    @jobs.task(name="double")
    async def double(number: int) -> int:
        return 2 * number

    async with jobs:
        for push in (double.push, lambda number: double.schedule(number).delay(0)):
            made = await way(push)
            assert sorted([await job for job in made]) == [2, 4]


async def test_a_push_of_another_thread_is_run_by_the_loop() -> None:
    async with app:
        loop, answers = asyncio.get_running_loop(), []

        def elsewhere() -> None:
            answers.append(asyncio.run_coroutine_threadsafe(send.push("Ada"), loop).result(30))

        thread = threading.Thread(target=elsewhere)
        thread.start()
        await asyncio.to_thread(thread.join)
        assert await answers[0] == "Ada"


async def test_what_a_builder_refuses_is_raised_where_it_is_awaited() -> None:
    async with app:
        builder: Any = send.schedule("Ada")
        refused = await asyncio.gather(
            builder.delay("soon"),
            builder.delay(1, now="today"),
            builder.at("today"),
            builder.cron("61 * * * *", job_id="a"),
            builder.cron("* * * * *", job_id=None),
            builder.push(job_id=5),
            return_exceptions=True,
        )
        assert [isinstance(error, ConfigurationError | ValueError) for error in refused] == [True] * 6
