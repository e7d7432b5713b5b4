"""Rows that somebody wrote by hand, or that a disk has damaged: story B33."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from jobify import Job, Jobify, JobStatus, SmartRetry
from jobify.model.records import JobQuery
from probes import events_of
from support import durable, eventually, run, soon

RULE = (
    '{"expression":"* * * * *","grace":null,"max_failures":10,"max_runs":-1,"misfire_policy":"once",'
    '"start_date":null,"zone":"UTC"}'
)

PAYLOADS = [b"", b"{}", b"[1]", b"null", b"not json", b"\x80\x04K\x01.", b"[[],[]]", b'[[1,2,3,4],{}]', b'[[],{"who":1}]',
            b'[["text"],{}]']  # fmt: skip
RULES = ["", "{}", "[1]", "null", "nonsense", RULE.replace("* * * * *", "61 * * * *"), RULE.replace("once", "twice"),
         RULE.replace("-1", '"x"'), RULE.replace("* * * * *", "0 0 30 2 *"), RULE.replace('"start_date":null', '"start_date":1e99')]  # fmt: skip
WORDS = {
    "status": "odd",
    "task": "somebody else's",
    "options": "nonsense",
    "error": "\udcff",
    "queue": "",
}
NUMBERS = ["due_at", "offset_at", "attempt", "run_count", "failure_count", "fence", "priority", "created_at", "crashes"]
EXTREMES = [0, -1, -(2**62), 2**62]


def make(directory: Path, **options: Any) -> tuple[Jobify, list[int]]:
    app = Jobify(storage=durable(directory), **options)
    seen: list[int] = []

    @app.task(name="task", retry=SmartRetry(2, initial_delay=0))
    async def task(number: int) -> int:
        seen.append(number)
        return number

    return app, seen


def write(directory: Path, statement: str, *parameters: Any) -> None:
    with closing(sqlite3.connect(directory / "jobs.db")) as connection, connection:
        assert connection.execute(statement, parameters).rowcount


def fill(directory: Path) -> None:
    """Two jobs that are not due, so that each can be looked at before it runs, and a schedule."""

    async def main() -> None:
        app, _ = make(directory)
        (task,) = app.routes
        async with app:
            for job_id in ("bad", "good"):
                await task.schedule(1).delay(3600, job_id=job_id)
            await task.schedule(1).cron("0 0 1 1 *", job_id="cron")

    run(main())


def let_run(app: Jobify, directory: Path, *ids: str) -> None:
    """Their time has come."""
    for job_id in ids:
        write(directory, "UPDATE jobs SET due_at = 1 WHERE id = ?", job_id)
    events_of(app).storage_changed()


async def look_around(app: Jobify) -> None:
    """Whatever one row says, the others can be seen."""
    ids = {job.id for job in app.get_active_jobs()}
    assert "cron" in ids
    for job_id in ("bad", "good", "cron"):
        app.find_job(job_id)
    assert len(app.configs.storage.find(JobQuery())) == 3


@pytest.mark.promise("b33")
@pytest.mark.parametrize("payload", PAYLOADS, ids=repr)
def test_arguments_that_cannot_be_read(tmp_path: Path, payload: bytes) -> None:
    """The job is parked with the reason, at once, and its row is kept; the app starts and the others run."""
    fill(tmp_path)
    write(tmp_path, "UPDATE jobs SET payload = ? WHERE id = 'bad'", payload)

    async def main() -> None:
        app, seen = make(tmp_path, result_ttl=0)
        async with app:
            await look_around(app)
            bad, good = app.find_job("bad"), app.find_job("good")
            assert bad is not None
            assert good is not None
            let_run(app, tmp_path, "bad", "good")
            await soon(good.wait())
            assert good.result() == 1
            if payload == b'[["text"],{}]':
                await soon(bad.wait())
                assert seen == [1, "text"] or seen == ["text", 1]
            else:
                await eventually(lambda: app.configs.storage.get(["bad"])[0].parking)
                (record,) = app.configs.storage.get(["bad"])
                await eventually(lambda: bad.status is JobStatus.SCHEDULED)
                assert (record.status, record.attempt) == ("scheduled", 0)
                assert record.parking is not None
                assert record.parking.reason
                assert seen == [1]

    run(main())


@pytest.mark.promise("b33")
@pytest.mark.parametrize("rule", RULES)
def test_rules_that_cannot_be_read(tmp_path: Path, rule: str) -> None:
    fill(tmp_path)
    write(tmp_path, "UPDATE jobs SET rule = ?, offset_at = due_at WHERE id = 'bad'", rule)

    async def main() -> None:
        app, seen = make(tmp_path, result_ttl=0)
        async with app:
            await look_around(app)
            good = app.find_job("good")
            assert good is not None
            let_run(app, tmp_path, "bad", "good")
            await soon(good.wait())
            await eventually(lambda: app.configs.storage.get(["bad"])[0].status == "failed")
            (record,) = app.configs.storage.get(["bad"])
            assert record.error
            assert record.delete_at is None, "it is there for somebody to look at"
            assert seen == [1]
            (task,) = app.routes
            job = await task.schedule(2).cron("* * * * *", job_id="bad", replace=True)
            assert job.status is JobStatus.SCHEDULED

    run(main())


@pytest.mark.promise("b33")
@pytest.mark.parametrize("rule", RULES)
def test_a_declared_rule_is_mended(tmp_path: Path, rule: str) -> None:
    job_id = "task__jobify_cron_definition"

    async def life() -> None:
        app = Jobify(storage=durable(tmp_path))

        @app.task(name="task", cron="0 0 1 1 *")
        async def task() -> None: ...

        async with app:
            job = app.find_job(job_id)
            assert job is not None
            assert job.cron_expression == "0 0 1 1 *"

    run(life())
    write(tmp_path, "UPDATE jobs SET rule = ? WHERE id = ?", rule, job_id)
    run(life())


@pytest.mark.promise("b33")
@pytest.mark.parametrize("column", WORDS)
def test_words_that_mean_nothing(tmp_path: Path, column: str, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path)
    word = WORDS[column].encode("utf-8", "surrogateescape")
    write(tmp_path, f"UPDATE jobs SET {column} = CAST(? AS TEXT) WHERE id = 'bad'", word)

    async def main() -> None:
        app, seen = make(tmp_path)
        async with app:
            await look_around(app)
            good = app.find_job("good")
            assert good is not None
            let_run(app, tmp_path, "bad", "good")
            await soon(good.wait())
            for _ in range(3):
                assert app.configs.storage.get(["bad"]), "nothing is deleted"
            if (
                column == "options"
            ):  # what it was to be told is not known: it must not run as if it had been told nothing
                await eventually(lambda: app.configs.storage.get(["bad"])[0].parking)
                assert seen == [1]
            if column in ("error", "queue"):
                await soon(asyncio.to_thread(lambda: None))
                await eventually(lambda: seen == [1, 1])

    with caplog.at_level(logging.WARNING):
        run(main())


@pytest.mark.promise("b33")
@pytest.mark.parametrize("column", NUMBERS)
@pytest.mark.parametrize("number", EXTREMES)
def test_numbers_that_cannot_be(tmp_path: Path, column: str, number: int) -> None:
    fill(tmp_path)
    write(tmp_path, f"UPDATE jobs SET {column} = ? WHERE id IN ('bad', 'cron')", number)

    async def main() -> None:
        app, _seen = make(tmp_path)
        async with app:
            await look_around(app)
            for job in app.get_active_jobs():
                assert repr(job)
            good = app.find_job("good")
            assert good is not None
            let_run(app, tmp_path, "good")
            await soon(good.wait())
            assert good.result() == 1
            (task,) = app.routes
            assert await soon(await task.push(7)) == 7

    run(main())


@pytest.mark.promise("b33")
def test_a_handle_of_a_job_with_an_unknown_status_waits_and_harms_nobody(tmp_path: Path) -> None:
    fill(tmp_path)

    async def main() -> None:
        app, _ = make(tmp_path)
        (task,) = app.routes
        async with app:
            job: Job[Any] = await task.schedule(5).delay(300, job_id="other")
            waiting = asyncio.ensure_future(job.wait())
            await asyncio.sleep(0.01)
            write(tmp_path, "UPDATE jobs SET status = 'odd' WHERE id = 'other'")
            good = app.find_job("good")
            assert good is not None
            let_run(app, tmp_path, "good")
            await soon(good.wait())
            assert not waiting.done()
            write(tmp_path, "DELETE FROM jobs WHERE id = 'other'")
            await soon(waiting)
            assert job.status is JobStatus.CANCELLED

    run(main())


async def test_a_row_that_is_deleted_while_its_job_runs(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    go_on = asyncio.Event()

    @app.task(name="task")
    async def task() -> None:
        await go_on.wait()

    async with app:
        job = await task.push()
        await eventually(lambda: job.status is JobStatus.RUNNING)
        write(tmp_path, "DELETE FROM jobs")
        go_on.set()
        await soon(job.wait())
        assert job.status is JobStatus.CANCELLED
        await soon(app.wait_all())


@pytest.mark.promise("b33")
async def test_a_result_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    """The handle of a job that ran elsewhere."""

    app, _ = make(tmp_path)
    (task,) = app.routes
    async with app:
        job = await task.schedule(1).delay(300, job_id="it")
        write(tmp_path, "UPDATE jobs SET status = 'success', result = x'ff00' WHERE id = 'it'")
        await soon(job.wait())
        assert job.status is JobStatus.SUCCESS
        with pytest.raises(Exception, match="cannot be read"):
            job.result()
