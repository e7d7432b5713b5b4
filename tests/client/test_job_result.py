"""The handle of a job, sentence by sentence (J1 to J24), with the app that runs the jobs elsewhere."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import threading
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from elsewhere import World

import jobify
from jobify import Cron, Jobify, JobResult, SmartRetry, group
from jobify.client.job_reader import JobReader
from jobify.exceptions import (
    ApplicationStateError,
    BaseJobifyError,
    JobNotFoundError,
    MaxRetriesExceededError,
    ResultNotStoredError,
    StorageUnavailableError,
    TaskCancelledError,
    TaskFailedError,
    WaitTimeoutError,
)
from jobify.model.records import JobRecord
from probes import client_of
from support import eventually, run, soon, until

GATE = threading.Event()
"""Held closed by tasks that are to run for as long as a test looks at them."""


def declare(app: Jobify) -> None:
    """The tasks of all tests here."""

    @app.task(name="add")
    def add(x: int, y: int = 1) -> int:
        return x + y

    @app.task(name="hold")
    async def hold() -> str:
        await eventually(GATE.is_set)
        return "held"

    @app.task(name="fail")
    def fail(text: str) -> None:
        raise ValueError(text)

    @app.task(name="fail again", retry=SmartRetry(2, initial_delay=0, jitter=False))
    def fail_again(text: str) -> None:
        raise ValueError(text)

    @app.task(name="odd")
    async def odd() -> object:
        return object()

    @app.task(name="nothing")
    async def nothing() -> None:
        return None


@pytest.fixture(autouse=True)
def closed_gate() -> None:
    GATE.clear()


@pytest.mark.promise("j1")
def test_it_is_exported() -> None:
    assert jobify.JobResult is JobResult
    assert "JobResult" in jobify.__all__


@pytest.mark.promise("j2")
def test_delay_returns_one(app: Jobify) -> None:
    (add,) = (route for route in app.routes if route.name == "add")
    assert isinstance(add.delay(1, y=2), JobResult)


@pytest.mark.promise("j3")
def test_apply_async_is_a_plain_call(app: Jobify) -> None:
    (add,) = (route for route in app.routes if route.name == "add")
    assert isinstance(add.apply_async((1,), {"y": 2}, priority=3), JobResult)


@pytest.mark.promise("j4")
def test_enqueue_takes_a_task_or_its_name(world: World, app: Jobify) -> None:
    (add,) = (route for route in app.routes if route.name == "add")
    with world.running(declare):
        assert app.enqueue(add, (1,), {"y": 2}).result() == 3
        assert app.enqueue("add", (1,), {"y": 2}).result() == 3


@pytest.mark.promise("j5")
def test_a_group_returns_a_list_of_them(world: World, app: Jobify) -> None:
    (add,) = (route for route in app.routes if route.name == "add")
    with world.running(declare):
        assert [job.result() for job in group(add.s(1), add.s(2)).apply()] == [2, 3]


@pytest.mark.promise("j6")
def test_its_id_is_a_uuid_in_order_of_time_unless_chosen(app: Jobify) -> None:
    jobs = [app.enqueue("add", (n,)) for n in range(20)]
    assert {UUID(job.id).version for job in jobs} == {7}
    assert sorted(job.id for job in jobs) == [job.id for job in jobs]
    assert app.enqueue("add", (1,), job_id="mine").id == "mine"


@pytest.mark.promise("j7")
def test_its_status_is_read_each_time(world: World, app: Jobify) -> None:
    job = app.enqueue("hold")
    other = app.get_job(job.id)
    with world.running(declare):
        until(lambda: other.status == "running")
        GATE.set()
        job.wait(20)
        assert other.status == "complete"


@pytest.mark.promise("j8")
@pytest.mark.parametrize("word", ["pending", "running", "complete", "failed", "dead", "cancelled"])
def test_every_word_is_reachable(world: World, app: Jobify, word: str) -> None:
    task = {"running": "hold", "failed": "fail", "dead": "fail again"}.get(word, "add")
    arguments = (word,) if word in ("failed", "dead") else () if word == "running" else (1,)
    options = {"delay": 3600} if word in ("pending", "cancelled") else {}
    with world.running(declare):
        job = app.enqueue(task, arguments, **options)  # type: ignore[call-overload]
        if word == "cancelled":
            job.cancel()
        until(lambda: job.status == word)
        GATE.set()


@pytest.mark.promise("j9")
def test_it_reads_pending_then_complete(world: World, app: Jobify) -> None:
    job = app.enqueue("add", (1,))
    assert job.status == "pending"
    with world.running(declare):
        job.wait(20)
    assert job.status == "complete"


@pytest.mark.promise("j10")
def test_its_progress_is_none_if_nothing_was_reported(app: Jobify) -> None:
    assert app.enqueue("add", (1,)).progress is None


@pytest.mark.promise("j11")
def test_its_error_is_readable(world: World, app: Jobify) -> None:
    job = app.enqueue("fail", ("because",))
    assert job.error is None
    with world.running(declare):
        job.wait(20)
    assert job.error == "ValueError: because"


@pytest.mark.promise("j11")
def test_its_error_is_kept_when_a_later_attempt_is_cancelled(world: World, app: Jobify) -> None:
    job = app.enqueue("fail", ("because",), retry=SmartRetry(1, initial_delay=3600))
    with world.running(declare):
        until(lambda: job.error is not None)
        assert job.status == "pending"
        assert job.cancel()
    assert job.error == "ValueError: because"
    assert job.reason == "cancelled"


@pytest.mark.promise("j11")
def test_its_error_is_kept_when_it_is_put_back(world: World, app: Jobify) -> None:
    job = app.enqueue("fail", ("because",))
    with world.running(declare):
        job.wait(20)
    assert job.retry()
    assert job.status == "pending"
    assert job.error == job.to_dict()["error"] == "ValueError: because"


@pytest.mark.promise("j11")
def test_a_schedule_has_the_error_of_its_last_run(world: World, app: Jobify) -> None:
    runs: list[int] = []

    def declare_schedule(other: Jobify) -> None:
        @other.task(name="beat", cron=Cron("* * * * * * *"))
        async def beat() -> None:
            runs.append(1)
            if len(runs) == 1:
                raise ValueError("because")

    with world.running(declare_schedule) as running:
        (view,) = running.schedules()
        job = app.get_job(view.id)
        until(lambda: job.error == "ValueError: because")
        until(lambda: job.error is job.to_dict()["error"] is None)
        assert len(job.errors) == 1


@pytest.mark.promise("j12", "j13", "j14")
def test_its_errors_are_one_dict_per_failed_attempt(world: World, app: Jobify) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    job = app.enqueue("fail again", ("because",))
    assert job.errors == []
    with world.running(declare):
        job.wait(20)
    errors = job.errors
    assert [error["attempt"] for error in errors] == [1, 2, 3]
    assert {error["job_id"] for error in errors} == {job.id}
    assert len({error["id"] for error in errors}) == 3
    for error in errors:
        failed_at = datetime.fromisoformat(error["failed_at"])
        assert failed_at.utcoffset() == timedelta(0)
        assert failed_at >= before
        assert error["error"].startswith("Traceback")
        assert error["error"].endswith("ValueError: because")
        assert "raise ValueError(text)" in error["error"]
        assert "/jobify/engine/" not in error["error"].replace("\\", "/")


@pytest.mark.promise("j15", "j16")
def test_it_knows_what_it_waits_for_and_what_waits_for_it(app: Jobify) -> None:
    first, second = app.enqueue("add", (1,)), app.enqueue("add", (2,))
    third = app.enqueue("add", (3,), depends_on=[first, second.id])
    assert third.dependencies == [first.id, second.id]
    assert first.dependents == second.dependents == [third.id]
    assert first.dependencies == third.dependents == []


@pytest.mark.promise("j17")
def test_it_is_a_dict_of_plain_values(world: World, app: Jobify) -> None:
    job = app.enqueue("add", (1,), metadata={"who": "me"}, priority=4, queue="quick")
    failed = app.enqueue("fail", ("because",))
    odd = app.enqueue("odd")
    with world.running(declare):
        for each in (job, failed, odd):
            each.wait(20)
    document = job.to_dict()
    assert json.loads(json.dumps(document)) == document
    assert document["id"] == job.id
    names = ("task_name", "queue_name", "priority", "status")
    assert tuple(document[name] for name in names) == (
        "add",
        "quick",
        4,
        "complete",
    )
    assert (document["result"], document["metadata"], document["attempt"]) == (2, {"who": "me"}, 1)
    assert json.dumps(failed.to_dict()["errors"])
    assert json.dumps(odd.to_dict()["result"])


@pytest.mark.promise("j18", "j19", "j20")
def test_it_waits_for_the_value(world: World, app: Jobify) -> None:
    with world.running(declare):
        assert app.enqueue("add", (1,)).result(timeout=30.0, poll_interval=0.05, max_poll_interval=0.5) == 2
        assert app.enqueue("nothing").result() is None


@pytest.mark.promise("j21")
def test_its_timeout_names_the_status(world: World, app: Jobify) -> None:
    job = app.enqueue("hold")
    with pytest.raises(TimeoutError, match=r"still pending after 0\.01 seconds"):
        job.result(timeout=0.01)
    with world.running(declare):
        until(lambda: job.status == "running")
        with pytest.raises(TimeoutError, match="still running"):
            job.result(timeout=0.01)
        GATE.set()


def test_a_timeout_says_why_the_job_does_not_run(world: World, app: Jobify) -> None:
    job = app.enqueue("hold", queue="images")

    async def waits() -> None:
        with pytest.raises(WaitTimeoutError, match=message):
            await job.aresult(timeout=0.01)
        with pytest.raises(WaitTimeoutError, match=message):
            await job.await_end(timeout=0.01)
        with pytest.raises(WaitTimeoutError, match=silence):
            await anext(aiter(job.astream(timeout=0.01)))

    def check() -> None:
        for wait in (job.result, job.wait):
            with pytest.raises(WaitTimeoutError, match=message):
                wait(timeout=0.01)
        with pytest.raises(WaitTimeoutError, match=silence):
            next(job.stream(timeout=0.01))
        asyncio.run(waits())

    for reason in ("no worker runs", "the queue is paused"):
        message = rf"is still pending after 0\.01 seconds: {reason}\."
        silence = rf"published nothing for 0\.01 seconds, and has not ended: {reason}\."
        check()
        app.pause_queue("images")


def test_a_timeout_needs_no_reason(world: World, app: Jobify, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise StorageUnavailableError("not now")

    monkeypatch.setattr("jobify.client.job_reader.JobReader.note", fail)
    with pytest.raises(WaitTimeoutError, match=r"is still pending after 0\.01 seconds\.$"):
        app.enqueue("hold").result(timeout=0.01)


@pytest.mark.promise("j22")
@pytest.mark.parametrize(
    ("task", "kind", "word"), [("fail", TaskFailedError, "failed"), ("fail again", MaxRetriesExceededError, "dead")]
)
def test_it_raises_what_became_of_it(
    world: World, app: Jobify, task: str, kind: type[TaskFailedError], word: str
) -> None:
    job = app.enqueue(task, ("because",))
    with world.running(declare), pytest.raises(RuntimeError) as caught:
        job.result()
    error = caught.value
    assert type(error) is kind
    assert isinstance(error, BaseJobifyError)
    assert (error.job_id, error.error_type, error.reason) == (job.id, "ValueError", "ValueError: because")
    assert error.traceback is not None
    assert "raise ValueError(text)" in error.traceback
    assert job.status == word


@pytest.mark.promise("j23")
def test_a_cancelled_one_raises_at_once(app: Jobify) -> None:
    job = app.enqueue("add", (1,), delay=3600)
    assert job.cancel()
    with pytest.raises(TaskCancelledError, match="cancelled") as caught:
        job.result()
    assert isinstance(caught.value, RuntimeError)
    assert (caught.value.job_id, caught.value.reason) == (job.id, "cancelled")
    assert (caught.value.error_type, caught.value.traceback) == (None, None)
    assert str(caught.value) == f"Job {job.id!r} was cancelled."


@pytest.mark.promise("j22")
def test_a_cancelled_one_carries_the_error_of_the_attempt_before(world: World, app: Jobify) -> None:
    job = app.enqueue("fail again", ("because",), retry=SmartRetry(2, initial_delay=3600))
    with world.running(declare):
        until(lambda: job.errors)
    assert job.cancel()
    with pytest.raises(TaskCancelledError) as caught:
        run(job.aresult())
    assert caught.value.error_type == "ValueError"
    assert str(caught.value.traceback).endswith("ValueError: because\n")
    assert pickle.loads(pickle.dumps(caught.value)).traceback == caught.value.traceback


@pytest.mark.promise("j24")
async def test_it_can_be_awaited(world: World, app: Jobify) -> None:
    with world.running(declare):
        jobs = await asyncio.gather(*[app.aenqueue("add", (n,)) for n in range(50)])
        assert await soon(asyncio.gather(*[job.aresult() for job in jobs])) == list(range(1, 51))
        assert await jobs[0].aresult(timeout=1) == 1
        for task, kind in (("fail", TaskFailedError), ("fail again", MaxRetriesExceededError)):
            with pytest.raises(kind):
                await (await app.aenqueue(task, ("because",))).aresult(30.0, 0.05, 0.5)
        later = await app.aenqueue("add", (1,), delay=3600)
        with pytest.raises(TimeoutError, match="still pending"):
            await later.aresult(timeout=0.01)
        assert await later.acancel()
        with pytest.raises(TaskCancelledError):
            await later.aresult()


# -- decided beyond it -------------------------------------------------------------------------------------------------


def test_an_unknown_id_is_not_found(app: Jobify) -> None:
    app.enqueue("add", (1,))
    with pytest.raises(JobNotFoundError, match="no job 'gone'"):
        app.get_job("gone")
    gone = JobResult("gone", client_of(app).operations)
    for look in (
        lambda: gone.status,
        lambda: gone.errors,
        lambda: gone.dependencies,
        gone.result,
        gone.cancel,
        gone.retry,
        gone.to_dict,
        gone.logs,
        gone.refresh,
        lambda: list(gone.stream()),
        lambda: run(gone.aresult()),
        lambda: run(gone.acancel()),
    ):
        with pytest.raises(JobNotFoundError):
            look()


def test_one_that_is_deleted_during_a_wait_is_not_found(world: World, app: Jobify) -> None:
    job = app.enqueue("add", (1,), delay=3600)
    found: list[object] = []

    def wait() -> None:
        try:
            job.result(timeout=20, poll_interval=0.005, max_poll_interval=0.005)
        except JobNotFoundError as error:
            found.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    app.delete_jobs(job)
    waiting.join(20)
    assert len(found) == 1


def test_a_value_that_cannot_be_stored_is_not_a_failure(world: World, app: Jobify) -> None:
    job = app.enqueue("odd")
    with world.running(declare):
        job.wait(20)
        assert job.status == "complete"
        assert job.error is None
        if world.kind == "memory":
            assert type(job.result()) is object
        else:
            with pytest.raises(ResultNotStoredError, match="was not stored"):
                job.result()


@pytest.mark.parametrize("task", ["fail", "fail again"])
def test_retry_puts_it_back_with_a_fresh_budget(world: World, app: Jobify, task: str) -> None:
    job = app.enqueue(task, ("because",))
    with world.running(declare):
        job.wait(20)
        count = len(job.errors)
        assert job in app.dead_letters()
        assert job.retry()
        job.wait(20)
        until(lambda: len(job.errors) == 2 * count)
        assert job.attempt == count


def test_only_what_failed_is_tried_again(app: Jobify) -> None:
    assert app.enqueue("add", (1,)).retry() is False


def test_refresh_does_no_harm(app: Jobify) -> None:
    app.enqueue("add", (1,)).refresh()


def test_it_has_its_times(world: World, app: Jobify) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    job = app.enqueue("add", (1,), delay=0.01)
    assert job.started_at is job.finished_at is None
    assert before <= job.created_at < job.eta
    with world.running(declare):
        job.wait(20)
    assert job.finished_at is not None
    assert job.finished_at >= job.eta
    assert job.started_at is not None
    assert job.started_at <= job.finished_at


def test_it_knows_its_task_queue_and_attempt(app: Jobify) -> None:
    job = app.enqueue("add", (1,), queue="quick", metadata={"a": [1, None]})
    assert (job.task_name, job.queue_name, job.attempt, job.metadata) == ("add", "quick", 0, {"a": [1, None]})


def test_equal_ids_are_equal_handles(app: Jobify) -> None:
    job = app.enqueue("add", (1,))
    assert job == app.get_job(job.id)
    assert len({job, app.get_job(job.id)}) == 1
    assert job != app.enqueue("add", (1,))
    assert job != job.id
    assert repr(job) == f"<JobResult id={job.id!r}>"


def test_a_pickled_one_knows_its_id_and_says_what_to_do(app: Jobify) -> None:
    job = app.enqueue("add", (1,))
    thawed = pickle.loads(pickle.dumps(job))
    assert thawed == job
    with pytest.raises(ApplicationStateError, match=r"app.get_job\(job.id\)"):
        _ = thawed.status


def test_a_copied_one_is_the_same(app: Jobify) -> None:
    job = app.enqueue("add", (1,))
    assert copy.copy(job) is copy.deepcopy([job])[0] is job


def test_there_may_be_no_end_to_a_wait(world: World, app: Jobify) -> None:
    with world.running(declare):
        assert app.enqueue("add", (1,)).result(timeout=float("inf")) == 2
        assert run(app.enqueue("add", (1,)).aresult(timeout=float("inf"))) == 2
        held = [app.enqueue("hold"), app.enqueue("hold")]
        until(lambda: [job.status for job in held] == ["running"] * 2)
        assert held[0].cancel(timeout=None)
        assert run(held[1].acancel(timeout=float("inf")))


@pytest.mark.parametrize("name", ["timeout", "poll_interval", "max_poll_interval"])
def test_a_wait_that_cannot_be_is_refused(app: Jobify, name: str) -> None:
    job = app.enqueue("add", (1,))
    with pytest.raises(ValueError, match=name):
        job.result(**{name: -1})
    with pytest.raises(ValueError, match=name):
        run(job.aresult(**{name: float("nan")}))


def test_async_code_reads_without_blocking_its_event_loop(
    world: World, app: Jobify, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = app.enqueue("fail", ("because",))
    with world.running(declare):
        until(job.is_done)
    threads: set[int] = set()
    original = JobReader.record

    def record(self: JobReader, job_id: str) -> JobRecord:
        threads.add(threading.get_ident())
        return original(self, job_id)

    monkeypatch.setattr(JobReader, "record", record)

    async def main() -> list[object]:
        return [await job.astatus(), await job.alogs()]

    assert run(main()) == [job.status, job.logs()]
    threads.clear()
    run(main())
    assert threads
    assert threading.get_ident() not in threads
    assert run(job.ato_dict()) == job.to_dict()

    async def lost() -> str:
        return await app.get_job("nowhere").astatus()

    with pytest.raises(JobNotFoundError):
        run(lost())
