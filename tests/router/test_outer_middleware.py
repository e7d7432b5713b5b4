"""Outer middleware and replacing: documented behaviour 10 and 11, and story B24."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobify import Cron, JobContext, Jobify, JobRouter, JobStatus, OuterContext
from jobify.exceptions import DuplicateJobError
from jobify.jobs.context import At, CronTrigger, Push
from jobify.middleware import BaseMiddleware, BaseOuterMiddleware, CallNextOuter
from support import durable, run

LATER = datetime(2127, 1, 1, tzinfo=UTC)


class Outer(BaseOuterMiddleware):
    """Remembers what it saw, and changes arguments if it is told to."""

    def __init__(self, **changes: Any) -> None:
        self.seen: list[OuterContext] = []
        self.changes = changes

    async def __call__(self, call_next: CallNextOuter, context: OuterContext) -> Any:
        self.seen.append(context)
        context.arguments.update(self.changes)
        return await call_next(context)

    @property
    def count(self) -> int:
        """How often it ran since this was asked."""
        count = len(self.seen)
        self.seen.clear()
        return count


storages = pytest.mark.parametrize("is_durable", [True, False], ids=["sqlite", "memory"])


def make_app(outer: BaseOuterMiddleware, is_durable: bool, tmp_path: Path) -> Jobify:
    return Jobify(storage=durable(tmp_path) if is_durable else False, outer_middleware=[outer])


@pytest.mark.promise("rule-10")
@storages
@pytest.mark.parametrize("changes", [{}, {"x": 100}], ids=["unchanged", "changed"])
async def test_it_runs_for_what_is_new_or_changed(is_durable: bool, changes: dict[str, Any], tmp_path: Path) -> None:
    """Also where it changes the arguments itself: the same order is the same order."""

    outer = Outer(**changes)
    app = make_app(outer, is_durable, tmp_path)

    @app.task
    async def work(x: int, y: int = 0) -> int:
        return x + y

    async with app:
        job = await work.schedule(1).at(LATER, job_id="it")
        assert outer.count == 1
        with pytest.raises(DuplicateJobError, match="Job with ID 'it' is already scheduled"):
            await work.schedule(1).at(LATER, job_id="it")
        assert outer.count == 0, "what is refused is not announced"
        assert await work.schedule(1).at(LATER, job_id="it", replace=True) is job
        assert outer.count == 0
        assert await work.schedule(1).at(LATER, job_id="it", replace=True, force=True) is job
        assert outer.count == 1
        assert await work.schedule(2).at(LATER, job_id="it", replace=True) is job
        assert outer.count == 1
        assert await work.schedule(2).at(LATER + timedelta(days=1), job_id="it", replace=True) is job
        assert outer.count == 1
        assert await work.schedule(2).cron("0 9 * * *", job_id="it", replace=True) is job
        assert outer.count == 1
        assert await work.schedule(2).cron("0 9 * * *", job_id="it", replace=True) is job
        assert outer.count == 0
        assert await work.schedule(3).cron("0 9 * * *", job_id="it", replace=True) is job
        assert outer.count == 1
        assert await work.schedule(3).push(job_id="it", replace=True) is job
        assert outer.count == 1
        assert await job == changes.get("x", 3)
        assert await (await work.schedule(1).push(job_id="it", replace=True)) == changes.get("x", 1)
        assert outer.count == 1


@pytest.mark.promise("rule-10")
@storages
async def test_what_it_changes_is_run(is_durable: bool, tmp_path: Path) -> None:
    app = make_app(Outer(x="changed", y="added"), is_durable, tmp_path)

    @app.task
    async def work(x: str, y: str = "default", *args: Any, **kwargs: Any) -> Any:
        return x, y, args, kwargs

    async with app:
        assert await (await work.push("original")) == ("changed", "added", (), {})
        assert await (await work.schedule("a", "b", "c", d="d").delay(0.01)) == (
            "changed",
            "added",
            ("c",),
            {"d": "d"},
        )


@pytest.mark.promise("rule-10")
def test_what_it_changes_is_saved(tmp_path: Path) -> None:
    """Story B24."""
    seen: list[str] = []

    async def life(outer: Outer, schedule: bool) -> None:
        app = make_app(outer, True, tmp_path)

        @app.task(name="work")
        async def work(x: str) -> None:
            seen.append(x)

        async with app:
            if schedule:
                await work.schedule("original").delay(0.05)
            else:
                await app.wait_all(20)
                assert outer.count == 0, "it does not run when a job is restored"

    run(life(Outer(x="changed"), schedule=True))
    run(life(Outer(x="changed again"), schedule=False))
    assert seen == ["changed"]


@storages
async def test_arguments_that_do_not_fit_are_refused(is_durable: bool, tmp_path: Path) -> None:
    app = make_app(Outer(z=1), is_durable, tmp_path)

    @app.task
    async def work(x: int) -> None: ...

    async with app:
        with pytest.raises(TypeError, match="no parameter 'z'"):
            await work.push(1)
        assert app.get_active_jobs() == []


class Remove(BaseOuterMiddleware):
    async def __call__(self, call_next: CallNextOuter, context: OuterContext) -> Any:
        context.arguments.clear()
        return await call_next(context)


async def test_arguments_that_are_missing_are_refused() -> None:
    app = Jobify(storage=False, outer_middleware=[Remove()])

    @app.task
    async def work(x: int) -> None: ...

    async with app:
        with pytest.raises(TypeError, match="'x'"):
            await work.push(1)


class Stop(BaseOuterMiddleware):
    async def __call__(self, call_next: CallNextOuter, context: OuterContext) -> Any:
        if context.arguments["x"] == 0:
            return None
        return await call_next(context)


@pytest.mark.promise("rule-10")
@storages
async def test_without_call_next_nothing_is_scheduled(is_durable: bool, tmp_path: Path) -> None:
    app = make_app(Stop(), is_durable, tmp_path)

    @app.task
    async def work(x: int) -> int:
        return x

    async with app:
        stopped = await work.schedule(0).at(LATER, job_id="it")
        assert stopped.status is JobStatus.PENDING
        assert app.get_active_jobs() == []
        await stopped.wait()
        job = await work.schedule(1).at(LATER, job_id="it")
        await work.schedule(0).at(LATER + timedelta(days=1), job_id="it", replace=True)
        assert (job.exec_at, job.status) == (LATER, JobStatus.SCHEDULED), "nothing was replaced"


class Raise(BaseOuterMiddleware):
    async def __call__(self, call_next: CallNextOuter, context: OuterContext) -> Any:
        raise PermissionError("not you")


async def test_its_error_is_the_callers() -> None:
    app = Jobify(storage=False, outer_middleware=[Raise()])

    @app.task
    async def work() -> None: ...

    async with app:
        with pytest.raises(PermissionError, match="not you"):
            await work.push()
        assert app.get_active_jobs() == []


async def test_order_app_router_sub_router() -> None:
    order: list[str] = []

    def note(name: str) -> Any:
        async def layer(call_next: CallNextOuter, context: OuterContext) -> Any:
            order.append(name)
            return await call_next(context)

        return layer

    app = Jobify(storage=False, outer_middleware=[note("app")])
    outer, inner = JobRouter(outer_middleware=[note("outer")]), JobRouter(outer_middleware=[note("inner")])
    app.include_router(outer)
    outer.include_router(inner)
    inner.add_outer_middleware(note("inner 2"))
    task = inner.task(lambda: None)
    async with app:
        await (await task.push())
    assert order == ["app", "outer", "inner", "inner 2"]


@storages
async def test_what_the_context_says(is_durable: bool, tmp_path: Path) -> None:
    outer = Outer()
    app = make_app(outer, is_durable, tmp_path)

    @app.task(name="work")
    async def work(x: int) -> int:
        return x

    @app.task(name="passing", durable=False)
    async def passing() -> None: ...

    async with app:
        job = await work.schedule(1).push(job_id="it")
        await work.schedule(1).at(LATER, job_id="at")
        await work.schedule(1).cron("0 9 * * *", job_id="cron")
        await work.schedule(1).at(LATER + timedelta(days=1), job_id="at", replace=True)
        await work.schedule(1).at(LATER + timedelta(days=1), job_id="at", replace=True, force=True)
        await passing.push()
        push, at, cron, replace, force, non_durable = outer.seen
        assert push.trigger == Push("it")
        assert push.job is job
        assert at.trigger == At("at", LATER)
        assert isinstance(cron.trigger, CronTrigger)
        assert cron.trigger.cron == Cron("0 9 * * *")
        assert [seen.is_persist for seen in outer.seen] == [is_durable] * 5 + [False]
        assert [seen.is_replace for seen in outer.seen] == [False, False, False, True, True, False]
        assert [seen.is_force for seen in outer.seen] == [False] * 4 + [True, False]
        assert replace.job is at.job is force.job
        assert non_durable.runnable.name == "passing"
        with pytest.raises(RuntimeError, match="outer middleware"):
            await push.runnable()


class ByHand(BaseOuterMiddleware):
    """Stores and schedules by the hooks, and does not call on."""

    async def __call__(self, call_next: CallNextOuter, context: OuterContext) -> Any:
        context.arguments["x"] = 5
        await context.persist_job_hook(context.job.id, context.job.exec_at, context.trigger)
        await context.persist_job_hook()
        return context.schedule_hook()


@pytest.mark.promise("x19")
@storages
async def test_the_hooks(is_durable: bool, tmp_path: Path) -> None:
    app = make_app(ByHand(), is_durable, tmp_path)

    @app.task
    async def work(x: int) -> int:
        return x

    async with app:
        assert await (await work.push(1)) == 5
        assert app.get_active_jobs() == []


class InMemory(BaseOuterMiddleware):
    async def __call__(self, call_next: CallNextOuter, context: OuterContext) -> Any:
        context.is_persist = False
        return await call_next(context)


async def test_it_can_keep_a_job_out_of_the_database(tmp_path: Path) -> None:
    storage = durable(tmp_path)
    app = Jobify(storage=storage, outer_middleware=[InMemory()])

    @app.task
    async def work(x: Any) -> Any:
        return x

    async with app:
        unstorable = object()
        job = await work.schedule(unstorable).delay(0.01)
        assert list(storage.get([job.id])) == []
        assert app.find_job(job.id) is job
        assert await job is unstorable
        assert await (await work.push(unstorable)) is unstorable


@pytest.mark.promise("rule-10")
@pytest.mark.parametrize("changes", [{}, {"x": 100}], ids=["unchanged", "changed"])
def test_declared_crons(changes: dict[str, Any], tmp_path: Path) -> None:
    """It runs at the first start and when the definition has changed; not when the schedule is restored."""

    async def life(cron: Cron) -> tuple[int, Any]:
        outer = Outer(**changes)
        app = make_app(outer, True, tmp_path)

        @app.task(name="work", cron=cron)
        async def work(x: int = 1) -> None: ...

        async with app:
            (job,) = app.get_active_jobs()
            assert job.status is JobStatus.SCHEDULED
            assert job.cron_expression == cron.expression
            for context in outer.seen:
                assert context.job.id == job.id
                assert isinstance(context.trigger, CronTrigger)
            is_replace = [context.is_replace for context in outer.seen]
            return outer.count, is_replace

    daily = Cron("0 0 1 1 *")
    assert run(life(daily)) == (1, [False])
    assert run(life(daily)) == (0, [])
    assert run(life(Cron("0 0 2 1 *"))) == (1, [True])
    assert run(life(Cron("0 0 2 1 *", args=(7,)))) == (1, [True])
    assert run(life(Cron("0 0 2 1 *", args=(7,)))) == (0, [])


async def test_what_cannot_be_compared_counts_as_changed() -> None:
    """Objects that stay in memory are compared by their pickles; what has none may always be something else."""

    outer = Outer()
    app = Jobify(storage=False, outer_middleware=[outer])

    @app.task
    async def work(x: Any) -> None: ...

    async with app:
        for _ in range(2):
            await work.schedule(lambda: None).at(LATER, job_id="it", replace=True)
            assert outer.count == 1


class Encode(BaseOuterMiddleware):
    async def __call__(self, call_next: CallNextOuter, context: OuterContext) -> Any:
        context.arguments["x"] = "encoded"
        return await call_next(context)


async def test_it_may_turn_what_cannot_be_stored_into_what_can(tmp_path: Path) -> None:
    app = make_app(Encode(), True, tmp_path)

    @app.task
    async def work(x: Any) -> Any:
        return x

    async with app:
        assert await (await work.push(object())) == "encoded"
        job = await work.schedule(object()).at(LATER, job_id="it")
        assert await work.schedule(object()).at(LATER, job_id="it", replace=True) is job


async def test_a_declared_cron_whose_last_date_is_past_keeps_nothing_from_starting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outer = Outer()
    app = make_app(outer, True, tmp_path)

    @app.task(cron="0 0 1 1 * 2020")
    async def work() -> None: ...

    async with app:
        assert app.get_active_jobs() == []
        assert outer.count == 0
    assert "runs no more" in caplog.text


@pytest.mark.slow
async def test_what_it_changes_in_a_declared_cron_is_run(tmp_path: Path) -> None:
    seen = []
    app = make_app(Outer(x="changed"), True, tmp_path)

    @app.task(cron=Cron("* * * * * * *", max_runs=1, args=("original",)))
    async def work(x: str) -> None:
        seen.append(x)

    async with app:
        await app.wait_all(20)
    assert seen == ["changed"]


class StopDeclared(BaseOuterMiddleware):
    async def __call__(self, call_next: CallNextOuter, context: OuterContext) -> Any:
        return None


async def test_a_declared_cron_can_be_stopped(tmp_path: Path) -> None:
    app = make_app(StopDeclared(), True, tmp_path)

    @app.task(cron="* * * * *")
    async def work() -> None: ...

    async with app:
        assert app.get_active_jobs() == []


class Tracing(BaseOuterMiddleware, BaseMiddleware):
    """One object for both chains: it hands a trace from the one who schedules to the one who runs."""

    async def __call__(self, call_next: Any, context: Any) -> Any:
        if isinstance(context, OuterContext):
            context.arguments["trace"] = f"trace of {context.job.id}"
        else:
            assert isinstance(context, JobContext)
            context.request_state.trace = context.runnable.bound.arguments["trace"]
        return await call_next(context)


async def test_one_object_for_both_chains(tmp_path: Path) -> None:
    layer = Tracing()
    app = Jobify(storage=durable(tmp_path), middleware=[layer], outer_middleware=[layer])

    @app.task
    async def work(trace: str = "") -> str:
        return trace

    async with app:
        job = await work.push()
        assert await job == f"trace of {job.id}"


@pytest.mark.parametrize("force", [False, True])
async def test_the_same_job_in_the_next_start_is_the_stored_one(force: bool, tmp_path: Path) -> None:
    """Also where only the middleware makes arguments that can be stored, so that the request cannot be compared."""

    async def order() -> tuple[JobStatus, bool, bool]:
        app = make_app(Outer(x=1), True, tmp_path)

        @app.task(name="work")
        async def work(x: Any) -> None: ...

        async with app:
            unstorable = (n for n in ())
            job = await work.schedule(unstorable).at(LATER, job_id="a", replace=True, force=force)
            return job.status, job.is_done(), app.find_job("a") is job

    assert await order() == (JobStatus.SCHEDULED, False, True)
    assert await order() == (JobStatus.SCHEDULED, False, True)


async def test_a_job_whose_key_is_in_use_is_the_other_one(tmp_path: Path) -> None:
    app = make_app(Outer(), True, tmp_path)

    @app.task(name="work")
    async def work(x: int) -> None: ...

    async with app:
        once = work.configure(unique_key="key", delay=3600)
        first, second = await once.push(1), await once.push(2)
        assert (second.id, second.status, second.is_done()) == (first.id, JobStatus.SCHEDULED, False)
