"""Jobs that run apart from all others, in one process."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobify import Jobify
from jobify.engine.execution import trials
from jobify.jobs.context import JobContext
from jobify.middleware.base import BaseMiddleware, CallNext
from jobify.storage import SQLiteStorage
from jobify.testing.rows import NOW, PROFILE, claim, job
from probes import slots_of
from support import durable, eventually, soon

pytestmark = pytest.mark.promise("f1")

SUSPECTS = [f"suspect-{number}" for number in range(5)]


def _suspect(directory: Path, ids: list[str]) -> SQLiteStorage:
    """Have these jobs die together twice."""
    storage = durable(directory)
    for _ in range(2):
        storage.open()
        dead = storage.register(PROFILE, now=NOW)
        storage.recover(now=NOW, max_crashes=3, delete_at=None)
        storage.insert([job(id, task="work", payload=b"[[],{}]") for id in ids])
        claim(storage, dead, tasks=("work",))
        storage.close()
    storage.open()
    return storage


class Stage:
    """An app, and who runs in it at which time."""

    def __init__(self, directory: Path, phases: list[bool] | None = None) -> None:
        self.app = app = Jobify(storage=durable(directory), concurrency=10)
        if phases is not None:
            app.configs.limits = replace(app.configs.limits, on_trial=phases.append)
        self.running: set[str] = set()
        self.seen: list[frozenset[str]] = []
        self.gate = asyncio.Event()

        @app.task(name="work")
        async def work() -> None:
            from jobify import current_job

            await self.be(current_job.id)

        @app.task(name="ordinary")
        async def ordinary(name: str) -> None:
            await self.be(name)

        @app.task(name="fleeting", durable=False)
        async def fleeting(name: str) -> None:
            await self.be(name)

        @app.task(name="endless")
        async def endless() -> None:
            self.running.add("endless")
            await self.gate.wait()

        self.ordinary, self.fleeting, self.endless = ordinary, fleeting, endless

    async def be(self, name: str) -> None:
        self.running.add(name)
        self.seen.append(frozenset(self.running))
        await asyncio.sleep(0.02)
        self.running.discard(name)

    def hold(self) -> asyncio.Event:
        """Let jobs wait for the gate. Set when one has begun."""
        begun = asyncio.Event()

        async def wait(_: str) -> None:
            begun.set()
            await self.gate.wait()

        self.be = wait  # type: ignore[method-assign]
        return begun

    def has_ended(self, ids: list[str]) -> bool:
        return {record.status for record in self.app.configs.storage.get(ids)} == {"success"}


async def test_suspects_run_alone_and_take_turns_with_others(tmp_path: Path) -> None:
    _suspect(tmp_path, SUSPECTS).close()
    phases: list[bool] = []
    stage = Stage(tmp_path, phases)

    async with stage.app:
        pushed = [await stage.ordinary.push(f"ordinary-{number}") for number in range(10)]
        pushed += [await stage.fleeting.push(f"fleeting-{number}") for number in range(10)]
        while not stage.has_ended(SUSPECTS):
            pushed.append(await stage.ordinary.push("more"))
            await asyncio.sleep(0.005)
        await asyncio.gather(*(handle.wait() for handle in pushed))
        assert slots_of(stage.app).taken == 0
    with_suspects = [names for names in stage.seen if names & set(SUSPECTS)]
    assert sorted(map(len, with_suspects)) == [1] * 5
    assert phases == [True, False] * 5


@pytest.mark.slow
async def test_an_endless_job_does_not_keep_others_from_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot drain goes on with ordinary work; the suspects begin all the same, in the end."""
    monkeypatch.setattr(trials, "_FIRST_PATIENCE", 0.05)
    monkeypatch.setattr(trials, "_DEADLINE", 1.0)
    storage = _suspect(tmp_path, [*SUSPECTS[:2], "c", "d", "e"])
    storage.cancel(["c", "d", "e"], reason="x", now=NOW, delete_at=None)
    stage = Stage(tmp_path)

    storage.close()
    async with stage.app:
        endless = await stage.endless.push()
        await eventually(lambda: "endless" in stage.running)
        for number in range(20):
            await (await stage.ordinary.push(f"{number}")).wait()
        await eventually(lambda: stage.has_ended(SUSPECTS[:2]), within=60)
        stage.gate.set()
        await endless.wait()


async def test_a_trial_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A suspect that lives long is left to itself."""
    monkeypatch.setattr(trials, "_LONGEST", 0.1)
    storage = _suspect(tmp_path, SUSPECTS)
    stage = Stage(tmp_path)
    begun = stage.hold()
    async with stage.app:
        await begun.wait()
        stage.be = Stage.be.__get__(stage)  # type: ignore[method-assign]
        await (await stage.ordinary.push("beside")).wait()
        assert storage.get(SUSPECTS[:1])[0].status == "running"
        stage.gate.set()
        await eventually(lambda: stage.has_ended(SUSPECTS), within=60)
    storage.close()


async def test_a_shutdown_during_a_trial_leaves_suspects_apart(tmp_path: Path) -> None:
    storage = _suspect(tmp_path, SUSPECTS)
    stage = Stage(tmp_path)
    begun = stage.hold()
    async with stage.app:
        await begun.wait()
    found = storage.get(SUSPECTS)
    assert [(record.status, record.is_apart, record.attempt) for record in found] == [("scheduled", True, 2)] * 5
    storage.close()


async def test_a_job_that_was_claimed_only_is_no_suspect(tmp_path: Path) -> None:
    """The engine notes what begins, and forgets it when the end is stored; jobs in memory count as company."""
    stage = Stage(tmp_path)

    async with stage.app:
        await asyncio.gather(*[(await stage.ordinary.push(f"{number}")).wait() for number in range(20)])
        await stage.endless.push()
        await (await stage.fleeting.push("x")).wait()
        await eventually(lambda: "endless" in stage.running)
        (table,) = (tmp_path / "jobs.db-owners").glob("*.begun")
        from jobify.storage.begun import read_begun

        assert len(read_begun(str(table)) or ()) == 1
        stage.gate.set()


class PassOn(BaseMiddleware):
    """Middleware, which runs in a task of its own."""

    async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
        return await call_next(context)


@pytest.mark.parametrize("middleware", [[], [PassOn()]], ids=["plain", "in a task"])
async def test_suspects_in_threads_begin_while_the_pool_is_closed(
    tmp_path: Path, middleware: list[BaseMiddleware]
) -> None:
    _suspect(tmp_path, SUSPECTS).close()
    phases: list[bool] = []
    app = Jobify(storage=durable(tmp_path), middleware=middleware)
    app.configs.limits = replace(app.configs.limits, on_trial=phases.append)

    @app.task(name="work")
    def work() -> None: ...

    async with app:
        await soon(app.wait_all())
        assert {record.status for record in app.configs.storage.get(SUSPECTS)} == {"success"}
        await eventually(lambda: slots_of(app).taken == 0)
    assert phases == [True, False] * 5
