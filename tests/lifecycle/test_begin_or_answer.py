"""From a slot that is taken to a job that runs: each step succeeds, or answers and gives slot and claim back."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from jobify import Jobify, RunMode
from jobify.engine.enqueue.enqueuer import Enqueuer
from jobify.engine.enqueue.pending_job import PendingJob
from jobify.engine.execution.attempt import Attempt
from jobify.engine.execution.claim_handler import ClaimHandler
from jobify.engine.execution.completer import PendingOutcome
from jobify.engine.execution.executor import Executor
from jobify.engine.execution.handles import HandleRegistry
from jobify.engine.execution.timers import DueTimer
from jobify.gateway.inline import InlineGateway
from jobify.gateway.threaded import ThreadedGateway
from probes import dispatchers_of, slots_of
from support import durable, eventually, nudge, soon

pytestmark = pytest.mark.promise("f20")

WORD: contextvars.ContextVar[str] = contextvars.ContextVar("WORD", default="none")


def old_signature(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """As task factories were written before Python 3.11."""
    return asyncio.Task(coro, loop=loop)


def broken(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
    coro.close()
    raise LookupError("no task today")


def nothing(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any) -> Any:
    coro.close()
    return None


def build(directory: Path, *, in_memory: bool = False) -> tuple[Jobify, Any, Any]:
    app = Jobify(storage=False) if in_memory else Jobify(storage=durable(directory))

    @app.task(name="echo")
    async def echo(value: Any) -> Any:
        return value, WORD.get()

    @app.task(name="plain", run_mode=RunMode.THREAD)
    def plain(value: Any) -> Any:
        return value, WORD.get()

    return app, echo, plain


def slots_are_free(app: Jobify) -> bool:
    return all(slots_of(app)[mode].is_idle for mode in (RunMode.MAIN, RunMode.THREAD))


@pytest.mark.parametrize("factory", [old_signature, broken, nothing])
@pytest.mark.parametrize("is_set_early", [True, False])
@pytest.mark.parametrize("in_memory", [True, False])
async def test_jobs_run_whatever_the_task_factory_does(
    tmp_path: Path, factory: Any, is_set_early: bool, in_memory: bool
) -> None:
    loop = asyncio.get_running_loop()
    app, echo, plain = build(tmp_path, in_memory=in_memory)
    if is_set_early:
        loop.set_task_factory(factory)
    await app.startup()
    loop.set_task_factory(factory)
    WORD.set("of the caller")
    try:
        for task in (echo, plain):
            jobs = [await task.push(1), await task.schedule(1).delay(0.01)]
            for job in jobs:
                assert (await job)[0] == 1
            assert await jobs[0] == (1, "of the caller")
        await eventually(lambda: slots_are_free(app))
        await app.shutdown()
    finally:
        loop.set_task_factory(None)


STEPS = [
    (PendingJob, "encode"),
    (PendingJob, "row"),
    (PendingJob, "copy_arguments"),
    (PendingJob, "attempt"),
    (Enqueuer, "_on_waiting"),
    (Attempt, "of_claim"),
    (HandleRegistry, "find"),
    (ClaimHandler, "_examine"),
    (DueTimer, "call_at"),
    (Executor, "_perform"),
    (PendingOutcome, "_settle"),
    (PendingOutcome, "write"),
    (HandleRegistry, "update"),
    (ThreadedGateway, "insert"),
    (ThreadedGateway, "claim"),
    (ThreadedGateway, "settle"),
    (InlineGateway, "insert"),
    (InlineGateway, "claim"),
    (InlineGateway, "settle"),
]


class Fault:
    """Has a method raise ``error`` instead of its next ``count`` calls."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.count = 0

    def put_into(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        kept = owner.__dict__[name] if name in owner.__dict__ else getattr(owner, name)
        is_bound = isinstance(kept, classmethod)
        original = kept.__func__ if is_bound else kept

        def raising(*args: Any, **kwargs: Any) -> Any:
            if self.count:
                self.count -= 1
                raise self.error
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, classmethod(raising) if is_bound else raising)


@pytest.mark.parametrize(("owner", "name"), STEPS, ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize("in_memory", [True, False], ids=["memory", "file"])
async def test_an_error_at_any_step_is_answered_and_nothing_stays_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, in_memory: bool
) -> None:
    fault = Fault(MemoryError("injected"))
    fault.put_into(monkeypatch, owner, name)

    app, echo, plain = build(tmp_path, in_memory=in_memory)
    await app.startup()
    for task in (echo, plain):
        for order in (lambda task=task: task.push([1]), lambda task=task: task.schedule(1).delay(0.03)):
            fault.count = 2
            for _ in range(3):
                try:
                    job = await soon(order())
                except MemoryError:
                    continue
                await soon(job.wait())
            fault.count = 0
    nudge(app)
    await eventually(lambda: not app.get_active_jobs() and slots_are_free(app))
    assert await soon(await echo.push(1)) == (1, "none")
    if not in_memory:
        counts = await app.astats()
        assert counts["running"] == counts["pending"] == 0
    await soon(app.shutdown())


async def test_a_claimed_job_whose_task_is_gone_is_returned(tmp_path: Path) -> None:
    """It was claimed, and the process does not know its task: another one may."""

    app, echo, _ = build(tmp_path)
    await app.startup()
    for dispatcher in dispatchers_of(app).values():
        dispatcher._claim_groups._of_task.clear()
    job = await echo.schedule(1).delay(0.01)
    result = app.get_job(job.id)
    await eventually(lambda: "no task" in str(result.error) and result.status == "pending")
    await eventually(lambda: slots_are_free(app))
    await soon(app.shutdown())


async def test_a_claim_is_answered_although_the_dispatcher_was_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice, so that nobody waits for the answer any more."""

    app, echo, _ = build(tmp_path)
    await app.startup()
    (dispatcher,) = [dispatcher for backend, dispatcher in dispatchers_of(app).items() if backend.is_durable]
    asked = asyncio.get_running_loop().create_future()
    claim = dispatcher._request_reserved

    def delayed(*request: Any) -> Any:
        async def answer() -> Any:
            await asked
            return await claim(*request)

        return asyncio.get_running_loop().create_task(answer())

    monkeypatch.setattr(dispatcher, "_request_reserved", delayed)
    job = await echo.schedule(1).delay(0.01)
    task = dispatcher._task
    assert task is not None
    await eventually(lambda: bool(dispatcher._open_claims))
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    asked.set_result(None)
    assert await soon(job) == (1, "none")
    await eventually(lambda: slots_are_free(app))
    await soon(app.shutdown())
