"""``current_job`` in a child process: made from a job_info, reported through messages."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import runner_tasks as tasks

from jobify.exceptions import ApplicationStateError, JobTimeoutError, PayloadError, TaskCancelledError
from jobify.model.records import MessageKind
from jobify.runners.base import FunctionCall
from jobify.runners.connection import _HIGH_WATER
from jobify.runners.job_info import JobInfo, job_info_of
from jobify.runners.process import ExecutorProcessRunner, ProcessRunner
from jobify.serializers import ExtendedJSONSerializer, JSONSerializer
from probes import children_of
from support import eventually, soon


class Attempt:
    id, number, task_name, queue_name = "the-job", 2, "count", "slow"
    timeout: float | None = None
    deadline: float | None = None

    def __init__(self, **metadata: Any) -> None:
        self.metadata = metadata

    batch = ()

    def stop_reason(self) -> str | None:
        return None

    def encode(self, value: Any) -> Any:
        return value

    def report(self, kind: MessageKind, data: Any, level: str | None = None) -> None:
        raise AssertionError("it runs elsewhere")


def job_info(serializer: Any = None, **metadata: Any) -> JobInfo:
    return job_info_of(Attempt(**metadata), serializer)


async def carry(func: Any, *args: Any, job_info: JobInfo | None = None, on_message: Any = None) -> Any:
    """The value of one call in a child of its own."""
    runner = ProcessRunner(slots=1)
    await runner.start()
    try:
        return await soon(runner.run(FunctionCall(func, args, job_info=job_info, on_message=on_message)))
    finally:
        await runner.stop()


async def test_the_child_knows_its_job() -> None:
    expected = ("the-job", "count", "slow", 2, 1, {"tenant": "acme"})
    assert await carry(tasks.describe_job, job_info=job_info(tenant="acme")) == expected


async def test_a_call_without_a_badge_is_no_job() -> None:
    assert await carry(tasks.is_in_job) is False


async def test_metadata_that_cannot_be_sent_is_left_out() -> None:
    told = await carry(tasks.describe_job, job_info=job_info(tenant="acme", lock=threading.Lock()))
    assert told[-1] == {"tenant": "acme"}


async def test_reports_arrive_in_order_and_values_encoded() -> None:
    heard: list[Any] = []
    await carry(tasks.report_all, job_info=job_info(ExtendedJSONSerializer()), on_message=heard.append)
    assert [kind for kind, _, _ in heard] == [MessageKind.PROGRESS, MessageKind.VALUE, MessageKind.LOG]
    assert heard[0][1] == 12.5
    assert ExtendedJSONSerializer().loadb(heard[1][1]) == {1, 2}
    assert heard[2][1:] == ("half way", "warning")


async def test_without_a_serializer_values_stay_what_they_are() -> None:
    heard: list[Any] = []
    await carry(tasks.publish, {1, 2}, job_info=job_info(), on_message=heard.append)
    assert heard == [(MessageKind.VALUE, {1, 2}, None)]


@pytest.mark.parametrize(
    ("serializer", "message"),
    [
        (JSONSerializer(), "set"),
        (tasks.Unsendable(), "The serializer Unsendable cannot be sent to a child process"),
        (tasks.Unopenable(), r"cannot restore the app's serializer \(RuntimeError: not here\)"),
    ],
)
async def test_a_value_that_cannot_be_encoded_fails_where_it_is_published(serializer: Any, message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        await carry(tasks.publish, {1, 2}, job_info=job_info(serializer))


async def test_a_value_that_cannot_be_sent_fails_where_it_is_published() -> None:
    with pytest.raises(PayloadError, match="What the task reports cannot be sent to another process"):
        await carry(tasks.publish_unpicklable, job_info=job_info())


async def test_time_that_is_over_is_seen_in_the_child() -> None:
    late = job_info()._replace(timeout=2.0, deadline=time.monotonic())
    with pytest.raises(TaskCancelledError, match="timeout"):
        await carry(tasks.check_job, job_info=late)
    with pytest.raises(JobTimeoutError, match="exceeded its timeout of 2 seconds"):
        await carry(tasks.check_time, job_info=late)
    await carry(tasks.check_job, job_info=job_info())


async def test_a_thread_of_the_task_is_heard_and_a_fork_of_it_is_not_the_job() -> None:
    heard: list[Any] = []
    assert await carry(tasks.publish_from_thread_and_fork, job_info=job_info(), on_message=heard.append)
    assert heard == [(MessageKind.VALUE, "from a thread", None)]


async def test_a_thread_that_outlives_its_call_is_not_taken_for_the_next_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    runner = ProcessRunner(slots=1)
    await runner.start()
    first: list[Any] = []
    second: list[Any] = []
    call = FunctionCall(tasks.leave_thread_behind, (str(pipe),), job_info=job_info(), on_message=first.append)
    assert await soon(runner.run(call)) == "left"
    call = FunctionCall(tasks.join_thread_and_publish, ("mine",), job_info=job_info(), on_message=second.append)
    following = asyncio.create_task(runner.run(call))
    await asyncio.to_thread(pipe.write_text, "go")
    await soon(following)
    await runner.stop()
    assert first == []
    assert second == [(MessageKind.VALUE, "mine", None)]


async def test_a_child_that_says_too_much_is_held_up() -> None:
    heard: list[int] = []
    rest: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def hear(message: Any) -> asyncio.Future[None] | None:
        heard.append(message[1][0])
        return rest

    runner = ProcessRunner(slots=1)
    await runner.start()
    call = FunctionCall(tasks.publish_many, (2000, 1000), job_info=job_info(), on_message=hear)
    talking = asyncio.create_task(runner.run(call))
    await eventually(lambda: any(c._connection and c._connection._is_paused for c in _children(runner)))
    (child,) = _children(runner)
    assert child._connection is not None
    assert child._connection._waiting < 4 * _HIGH_WATER
    assert heard == [0]
    rest.set_result(None)
    assert await soon(talking) == 2000
    assert heard == list(range(2000))
    await runner.stop()


def _children(runner: ProcessRunner) -> list[Any]:
    return list(children_of(runner))


async def test_in_the_users_own_executor_a_job_can_be_asked_and_reports_are_refused() -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        runner = ExecutorProcessRunner(executor)
        await runner.start()
        assert await runner.run(FunctionCall(tasks.describe_job, job_info=job_info(a=1))) == (
            ("the-job", "count", "slow", 2, 1, {"a": 1})
        )
        with pytest.raises(ApplicationStateError, match="the app's own processpool_executor"):
            await runner.run(FunctionCall(tasks.report_all, job_info=job_info()))
        assert await runner.run(FunctionCall(tasks.is_in_job)) is False
