"""Checklist items 42-61: cron rules, misfires, retries."""

from __future__ import annotations

import asyncio
from dataclasses import is_dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from jobify import Cron, CronContext, GracePolicy, Job, Jobify, JobStatus, MisfirePolicy, SmartRetry
from jobify.crontab import create_crontab
from jobify.exceptions import ConfigurationError, InvalidCronError

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.promise("item-42")
def test_expression() -> None:
    assert Cron("0 9 * * *").expression == "0 9 * * *"
    assert Cron(expression="0 9 * * *") == Cron("0 9 * * *")
    assert is_dataclass(Cron)


@pytest.mark.slow
@pytest.mark.promise("item-43")
async def test_max_runs() -> None:
    assert Cron("* * * * *").max_runs == -1
    assert Cron("* * * * *", max_runs=3).max_runs == 3

    app = Jobify(storage=False)
    runs = []

    @app.task(cron=Cron("* * * * * * *", max_runs=2))
    async def tick() -> None:
        runs.append(1)

    async with app:
        await app.wait_all(10)
        assert len(runs) == 2


@pytest.mark.slow
@pytest.mark.promise("item-44", "x4")
async def test_max_failures() -> None:
    assert Cron("* * * * *").max_failures == 10
    for wrong in (0, -1):
        with pytest.raises(ValueError):
            Cron("* * * * *", max_failures=wrong)

    app = Jobify(storage=False)

    @app.task
    async def fail() -> None:
        raise OSError("no")

    async with app:
        job = await fail.schedule().cron(Cron("* * * * * * *", max_failures=1), job_id="fails")
        await job.wait()
        assert job.status is JobStatus.PERMANENTLY_FAILED
        assert isinstance(job.exception, OSError)


@pytest.mark.promise("item-45")
def test_misfire_policy_of_a_cron() -> None:
    assert Cron("* * * * *").misfire_policy is MisfirePolicy.ONCE
    grace = GracePolicy(timedelta(hours=1))
    assert Cron("* * * * *", misfire_policy=grace).misfire_policy == grace


@pytest.mark.promise("item-46", "x7")
async def test_start_date() -> None:
    assert Cron("* * * * *").start_date is None

    app = Jobify(storage=False, tz=ZoneInfo("Asia/Tokyo"))

    @app.task
    async def noop() -> None: ...

    async with app:
        start = datetime(2127, 1, 1, 10, 30)
        job = await noop.schedule().cron(Cron("0 0 * * *", start_date=start), job_id="later")
        assert job.exec_at == start.replace(tzinfo=ZoneInfo("Asia/Tokyo"))
        past = await noop.schedule().cron(Cron("0 0 1 1 *", start_date=datetime(2020, 1, 1)), job_id="past")
        assert (past.exec_at.month, past.exec_at.day) == (1, 1)
        assert past.exec_at > noop.schedule().now()


@pytest.mark.slow
@pytest.mark.promise("item-47", "item-48")
async def test_args_and_kwargs() -> None:
    assert Cron("* * * * *").args == ()
    assert Cron("* * * * *").kwargs == {}

    app = Jobify(storage=False)
    seen = asyncio.Queue[Any]()

    @app.task(cron=Cron("* * * * * * *", args=(1,), kwargs={"b": 2}))
    async def see(a: int, b: int) -> None:
        seen.put_nowait((a, b))

    async with app:
        assert await seen.get() == (1, 2)


@pytest.mark.promise("item-47")
def test_arguments_that_do_not_fit_are_refused_at_the_decorator() -> None:
    app = Jobify(storage=False)
    with pytest.raises(ConfigurationError, match="missing"):

        @app.task(cron="* * * * *")
        async def needs(a: int) -> None: ...

    with pytest.raises(ConfigurationError, match="unexpected"):

        @app.task(cron=Cron("* * * * *", kwargs={"b": 1}))
        async def has_not() -> None: ...


@pytest.mark.promise("item-49")
def test_comparing_rules() -> None:
    with pytest.raises(TypeError):
        Cron("* * * * *", 5)  # type: ignore[call-arg]
    assert Cron("* * * * *", max_runs=2) == Cron("* * * * *", max_runs=2)
    assert Cron("* * * * *", max_runs=2) != Cron("* * * * *", max_runs=3)
    assert Cron("0 * * * *") < Cron("1 * * * *")
    assert replace(Cron("* * * * *"), max_runs=3).max_runs == 3


@pytest.mark.promise("item-50")
def test_cron_context() -> None:
    job: Job[int] = Job(job_id="1", storage=None, exec_at=NOON, unregister_hook=lambda _: None)
    cron, parser = Cron("0 * * * *", max_runs=2, max_failures=3), create_crontab("0 * * * *")
    context = CronContext[int](cron=cron, cron_parser=parser, job=job, offset=NOON, run_count=1)
    assert context.cron is cron
    assert context.cron_parser is parser
    assert context.failure_count == 0
    assert context.job is job
    assert context.offset == NOON
    assert context.run_count == 1
    with pytest.raises(TypeError):
        CronContext(cron)  # type: ignore[call-arg]
    failed = CronContext[int](cron=cron, cron_parser=parser, failure_count=2, job=job, offset=NOON, run_count=0)
    assert failed.failure_count == 2


def context_after(*, failures: int = 0, runs: int = 0, **options: Any) -> CronContext[Any]:
    cron = Cron("0 * * * *", **options)
    parser = create_crontab(cron.expression)
    return CronContext(cron=cron, cron_parser=parser, failure_count=failures, job=None, offset=NOON, run_count=runs)


@pytest.mark.promise("item-51")
def test_is_failure_allowed_by_limit() -> None:
    assert context_after(failures=2, max_failures=3).is_failure_allowed_by_limit()
    assert not context_after(failures=3, max_failures=3).is_failure_allowed_by_limit()


@pytest.mark.promise("item-52")
def test_is_run_exceeded_by_limit() -> None:
    assert not context_after(runs=1, max_runs=2).is_run_exceeded_by_limit()
    assert context_after(runs=2, max_runs=2).is_run_exceeded_by_limit()
    assert not context_after(runs=10**9).is_run_exceeded_by_limit()


@pytest.mark.promise("item-53")
def test_misfire_policy_words() -> None:
    assert [policy.value for policy in MisfirePolicy] == ["all", "skip", "once"]
    assert issubclass(MisfirePolicy, str)
    assert str(MisfirePolicy.ALL) == "all"


@pytest.mark.promise("item-54")
def test_grace_policy() -> None:
    hour = timedelta(hours=1)
    assert GracePolicy(hour).value == hour
    assert GracePolicy(value=hour) == (hour,)
    assert MisfirePolicy.GRACE(hour) == GracePolicy(hour)


@pytest.mark.promise("item-55")
def test_retries() -> None:
    assert SmartRetry(3).retries == 3
    assert SmartRetry(retries=0).retries == 0
    for wrong in (-1, 1.5, float("nan")):
        with pytest.raises(ValueError):
            SmartRetry(retries=wrong)  # type: ignore[arg-type]


@pytest.mark.promise("item-56", "item-57", "item-58", "item-59", "item-60", "item-61")
def test_fields_and_defaults() -> None:
    assert SmartRetry(1)._asdict() == {
        "retries": 1,
        "initial_delay": 0.5,
        "max_delay": 60.0,
        "backoff_factor": 2.0,
        "jitter": True,
        "include_exceptions": (Exception,),
        "exclude_exceptions": (),
    }
    assert isinstance(SmartRetry(1), tuple)
    with pytest.raises(AttributeError):
        SmartRetry(1).retries = 2  # type: ignore[misc]


@pytest.mark.promise("item-56")
def test_initial_delay() -> None:
    assert SmartRetry(1, initial_delay=3, jitter=False).compute_delay(1) == 3


@pytest.mark.promise("item-57")
def test_max_delay() -> None:
    assert SmartRetry(1, max_delay=4, jitter=False).compute_delay(1100) == 4


@pytest.mark.promise("item-58")
def test_backoff_factor() -> None:
    classic = SmartRetry(5, initial_delay=1, jitter=False)
    assert [classic.compute_delay(attempt) for attempt in (1, 2, 3, 4)] == [1, 2, 4, 8]
    constant = SmartRetry(5, initial_delay=1, backoff_factor=1.0, jitter=False)
    assert {constant.compute_delay(attempt) for attempt in (1, 2, 3, 4)} == {1}


@pytest.mark.promise("item-59")
def test_jitter() -> None:
    waits = [SmartRetry(5, initial_delay=8).compute_delay(1) for _ in range(200)]
    assert all(4 <= wait <= 8 for wait in waits)
    assert len(set(waits)) > 100


def attempts_at(error: Exception, **options: Any) -> int:
    attempts = 0

    async def main() -> None:
        app = Jobify(storage=False)

        @app.task(retry=SmartRetry(retries=2, initial_delay=0, **options))
        async def fail() -> None:
            nonlocal attempts
            attempts += 1
            raise error

        async with app:
            await (await fail.push()).wait()

    asyncio.run(main())
    return attempts


@pytest.mark.promise("item-60")
def test_include_exceptions() -> None:
    assert attempts_at(OSError()) == 3
    assert attempts_at(OSError(), include_exceptions=(ValueError,)) == 1
    assert attempts_at(ValueError(), include_exceptions=(ValueError, KeyError)) == 3


@pytest.mark.promise("item-61")
def test_exclude_exceptions() -> None:
    assert attempts_at(FileNotFoundError(), exclude_exceptions=(OSError,)) == 1
    both = {"include_exceptions": (OSError,), "exclude_exceptions": (FileNotFoundError,)}
    assert attempts_at(FileNotFoundError(), **both) == 1
    assert attempts_at(PermissionError(), **both) == 3


def test_an_expression_that_never_matches_is_refused() -> None:
    with pytest.raises(InvalidCronError):
        create_crontab("0 0 30 2 *")
