"""Which jobs, queues, workers and schedules there are, and orders for them, from any process."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from elsewhere import World

from jobify import Cron, Jobify, JobResult
from jobify.exceptions import ConfigurationError, JobNotFoundError
from jobify.testing.clock import FakeClock
from support import run, until

WORDS = {"pending": 0, "running": 0, "complete": 0, "failed": 0, "dead": 0, "cancelled": 0}


def declare(app: Jobify) -> None:
    """The tasks of all tests here."""

    @app.task(name="add")
    async def add(x: int) -> int:
        return x + 1

    @app.task(name="fail")
    async def fail() -> None:
        raise ValueError("because")

    @app.task(name="wait")
    async def wait() -> None:
        await asyncio.Event().wait()


def ids(jobs: list[JobResult[Any]]) -> list[str]:
    return [job.id for job in jobs]


# -- jobs --------------------------------------------------------------------------------------------------------------


def test_stats_have_every_word(world: World, app: Jobify) -> None:
    assert app.stats() == WORDS
    jobs = [app.enqueue("add", (1,)), app.enqueue("fail", queue="quick"), app.enqueue("fail", retry=1, delay=3600)]
    assert jobs[2].cancel()
    with world.running(declare):
        for job in jobs:
            job.wait(20)
    assert app.stats() == {**WORDS, "complete": 1, "failed": 1, "cancelled": 1}
    assert app.stats(task="fail") == {**WORDS, "failed": 1, "cancelled": 1}
    assert app.stats(queue="quick") == {**WORDS, "failed": 1}
    assert run(app.astats("add")) == {**WORDS, "complete": 1}


def test_jobs_are_found_by_what_they_are(world: World, app: Jobify) -> None:
    (task,) = (route for route in app.routes if route.name == "add")
    first = app.enqueue("add", (1,), metadata={"who": "me", "n": 1})
    second = app.enqueue("fail", queue="quick", metadata={"who": "you"})
    assert ids(app.jobs()) == [second.id, first.id]
    assert ids(app.jobs(newest_first=False)) == [first.id, second.id]
    assert ids(app.jobs(task=task)) == [first.id]
    assert ids(app.jobs(queue="quick")) == [second.id]
    assert ids(app.jobs(status="pending", metadata={"who": "me", "n": 1})) == [first.id]
    assert ids(app.jobs(task=[task, "fail"], queue={"quick", "slow"}, status=("pending", "running"))) == [second.id]
    assert app.jobs(metadata={"who": "me", "n": 2}) == app.jobs(status="dead") == []
    assert ids(app.jobs(created_after=datetime(2000, 1, 1))) == [second.id, first.id]
    assert app.jobs(created_before=datetime.now(UTC) - timedelta(days=1)) == []
    assert ids(run(app.ajobs(task="add"))) == [first.id]


def test_jobs_come_in_pages(app: Jobify) -> None:
    all_ids = ids(app.enqueue_many("add", [(n,) for n in range(5)]))
    page = app.jobs(limit=2, newest_first=False)
    assert ids(page) == all_ids[:2]
    assert ids(app.jobs(limit=2, newest_first=False, after=page[-1])) == all_ids[2:4]
    assert ids(app.jobs(limit=10, after=all_ids[2])) == all_ids[1::-1]


@pytest.mark.parametrize(
    "ask",
    [
        lambda app: app.jobs(status="done"),
        lambda app: app.jobs(stats="pending"),
        lambda app: app.jobs(limit=0),
        lambda app: app.jobs(after=5),
        lambda app: app.jobs(created_after=5),
        lambda app: app.jobs(metadata={"a": [1]}),
        lambda app: app.jobs(task=5),
        lambda app: app.purge_jobs(status="pending"),
        lambda app: app.pause_queue(""),
        lambda app: app.enqueue("add", (1,)).stream(after=-1),
        lambda app: app.enqueue("add", (1,)).stream(after="1"),
        lambda app: app.enqueue("add", (1,)).astream(after=2**63),
        lambda app: app.jobs(queue=5),
        lambda app: app.jobs(queue=["a", 5]),
        lambda app: app.jobs(status=[]),
        lambda app: app.jobs(status=["dead", "complete"]),
        lambda app: app.jobs(metadata="text"),
        lambda app: app.jobs(task="half \ud800"),
        lambda app: app.stats(queue=5),
        lambda app: app.dead_letters(queue="half \ud800"),
        lambda app: app.get_job(None),
        lambda app: app.get_job(5),
        lambda app: app.delete_jobs(None),
    ],
)
def test_a_question_that_cannot_be_is_refused(app: Jobify, ask: Callable[[Jobify], object]) -> None:
    with pytest.raises(ConfigurationError):
        ask(app)


def test_a_job_is_found_by_its_id(app: Jobify) -> None:
    job = app.enqueue("add", (1,))
    assert app.get_job(job.id) == run(app.aget_job(job.id)) == job
    with pytest.raises(JobNotFoundError):
        run(app.aget_job("gone"))


def test_a_page_may_be_as_long_as_there_are_jobs(app: Jobify) -> None:
    job = app.enqueue("add", (1,))
    assert app.jobs(limit=10**30) == [job]


def test_what_no_database_can_hold_is_not_found(app: Jobify) -> None:
    app.enqueue("add", (1,))
    for ask in (app.get_job, app.delete_jobs, lambda job_id: app.jobs(after=job_id)):
        with pytest.raises(JobNotFoundError):
            ask("half \ud800")


def test_dead_letters_are_those_that_failed(world: World, app: Jobify) -> None:
    failed, fine = app.enqueue("fail"), app.enqueue("add", (1,))
    dead = app.enqueue("fail", retry=1, queue="quick")
    with world.running(declare):
        for job in (failed, fine):
            job.wait(20)
        until(lambda: dead.status == "dead")
    assert ids(app.dead_letters()) == [dead.id, failed.id]
    assert ids(app.dead_letters(queue="quick")) == ids(run(app.adead_letters("fail", limit=1))) == [dead.id]
    assert ids(app.dead_letters(after=dead)) == [failed.id]


def test_jobs_are_deleted(world: World, app: Jobify) -> None:
    first, second, third = app.enqueue_many("add", [(1,), (2,), (3,)])
    child = app.enqueue("add", (4,), depends_on=third)
    assert app.delete_jobs(first) == 1
    assert run(app.adelete_jobs([second.id, third])) == 2
    assert app.delete_jobs("gone") == 0
    assert app.stats() == {**WORDS, "cancelled": 1}
    assert child.reason is not None


def test_ended_jobs_are_purged(world: World, app: Jobify) -> None:
    done, failed = app.enqueue("add", (1,)), app.enqueue("fail")
    with world.running(declare):
        done.wait(20)
        failed.wait(20)
    waiting = app.enqueue("add", (1,))
    assert app.purge_jobs(created_before=datetime(2000, 1, 1)) == 0
    assert app.purge_jobs(status="complete") == 1
    assert run(app.apurge_jobs()) == 1
    assert ids(app.jobs()) == [waiting.id]


def test_what_retention_would_delete_is_shown_before(world: World) -> None:
    clock = FakeClock(datetime(2030, 1, 1, tzinfo=UTC))
    app = Jobify(storage=world.storage(), clock=clock)
    declare(app)
    assert app.enqueue("add", (1,)).cancel()
    assert app.retention.preview() == WORDS
    clock.advance(3 * 86_400)
    assert app.retention.preview() == run(app.retention.apreview()) == {**WORDS, "cancelled": 1}
    app.close()


# -- queues ------------------------------------------------------------------------------------------------------------


def test_a_queue_that_is_paused_rests(world: World, app: Jobify) -> None:
    app.pause_queue("slow")
    job = app.enqueue("add", (1,), queue="slow")
    with world.running(declare):
        assert app.enqueue("add", (1,)).result() == 2
        assert job.status == "pending"
        (view,) = (queue for queue in app.queues() if queue.name == "slow")
        assert (view.is_paused, view.counts["pending"], view.workers, view.problem) == (True, 1, 1, None)
        app.resume_queue("slow")
        assert job.result() == 2
        run(app.apause_queue("slow"))
        run(app.aresume_queue("slow"))
    assert {queue.name: queue.is_paused for queue in run(app.aqueues())} == {"default": False, "slow": False}


@pytest.mark.promise("t10")
def test_a_queue_that_no_worker_serves_is_reported(world: World, app: Jobify) -> None:
    app.enqueue("add", (1,), queue="lonely")
    (view,) = app.queues()
    assert view.problem == "No worker serves the queue 'lonely'."
    (unserved,) = app.unserved()
    assert (unserved.task_name, unserved.queue_name, unserved.waiting) == ("add", "lonely", 1)
    assert unserved.reason == "No worker is running."


@pytest.mark.promise("x20")
def test_a_task_that_no_worker_knows_is_reported(world: World, app: Jobify) -> None:
    app.enqueue("unheard of")
    with world.running(declare):
        (unserved,) = run(app.aunserved())
        assert unserved.reason == "No worker that serves the queue 'default' knows the task 'unheard of'."
        assert app.queues()[0].problem is None


# -- workers -----------------------------------------------------------------------------------------------------------


def test_workers_say_what_they_are_and_do(world: World, app: Jobify) -> None:
    with world.running(declare, concurrency=7):
        job = app.enqueue("wait")
        until(lambda: job.status == "running")
        (worker,) = (one for one in app.workers() if one.role == "worker")
        assert (worker.pid, worker.concurrency, worker.queues, worker.is_alive) == (os.getpid(), 7, None, True)
        assert set(worker.tasks) >= {"add", "fail", "wait"}
        assert worker.jobs == (job.id,)
        assert worker.started_at <= worker.seen_at <= datetime.now(UTC)
        assert [one for one in run(app.aworkers()) if one.role == "worker"] == [worker]
        assert job.cancel()
    assert [one for one in app.workers() if one.role == "worker"] == []


# -- schedules ---------------------------------------------------------------------------------------------------------


def test_schedules_are_seen_paused_and_run(world: World, app: Jobify) -> None:
    runs: list[int] = []

    def declare_schedule(other: Jobify) -> None:
        @other.task(name="beat", cron=Cron("0 0 1 1 *", args=(5,)), queue="slow")
        async def beat(x: int) -> int:
            runs.append(x)
            return x

    with world.running(declare_schedule):
        (view,) = app.schedules()
        assert (view.task_name, view.cron, view.status, view.is_paused) == ("beat", "0 0 1 1 *", "pending", False)
        assert view.next_at is not None
        assert view.queue_name == "slow"
        assert app.pause_schedule(view.id)
        assert app.schedules()[0].is_paused
        assert app.resume_schedule(view.id)
        assert app.resume_schedule(view.id) is False
        assert run(app.apause_schedule(view.id))
        assert run(app.aresume_schedule(view.id))
        assert app.run_schedule_now(view.id).result() == 5
        assert run(app.arun_schedule_now(view.id)).result() == 5
        assert run(app.aschedules()) == [view]
        assert app.get_job(view.id).to_dict()["cron"] == "0 0 1 1 *"
    assert runs == [5, 5]


def test_only_a_schedule_can_be_treated_as_one(app: Jobify) -> None:
    job = app.enqueue("add", (1,))
    assert app.pause_schedule(job) is False
    assert app.resume_schedule(job) is False
    with pytest.raises(ConfigurationError, match="no schedule"):
        app.run_schedule_now(job)
    with pytest.raises(JobNotFoundError):
        app.run_schedule_now("gone")


def test_it_is_asked_by_many_threads_at_once(world: World, app: Jobify) -> None:
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            for n in range(20):
                job = app.enqueue("add", (n,))
                assert job.status in ("pending", "running", "complete")
                app.stats()
                app.queues()
        except BaseException as error:
            errors.append(error)

    with world.running(declare):
        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        until(lambda: app.stats()["complete"] == 120)
    assert not errors
