"""A whole app killed at a named point, and started again: stories B19, B22 and B23."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from jobify.model.records import AttemptRecord, JobRecord
from support import Program, durable, opened

APP = """
    import asyncio, os, signal, sys
    from pathlib import Path
    from jobify import INJECT, Cron, JobContext, Jobify, RunMode, SmartRetry
    from jobify.storage import SQLiteStorage

    point, = sys.argv[1:]
    app = Jobify(storage=SQLiteStorage("jobs.db", synchronous="normal"))

    def say(word):
        print(word, flush=True)

    @app.task(name="work", retry=SmartRetry(3, initial_delay=0))
    async def work(key):
        say(f"begun {key}")
        if point == "running":
            await asyncio.Event().wait()
        say(f"done {key}")
        return key

    @app.task(name="poison")
    async def poison():
        say("poisoned")
        os.kill(os.getpid(), signal.SIGKILL)

    @app.task(name="fails", retry=SmartRetry(3, initial_delay=3600 if point == "retry" else 0, jitter=False))
    async def fails():
        say("failing")
        raise ValueError("as it was told")

    @app.task(name="beat", cron=Cron("* * * * * * *", max_runs=2) if "cron" in point else None)
    async def beat():
        say("beat")
        if point == "cron running":
            await asyncio.Event().wait()

    async def main():
        async with app:
            if point == "running":
                await work.schedule("it").push(job_id="it")
            elif point == "waiting":
                await work.schedule("it").delay(0.5, job_id="it")
            elif point == "acknowledged":
                await asyncio.gather(*(work.schedule(n).delay(0.5, job_id=f"{n}") for n in range(200)))
            elif point == "poison":
                await work.schedule("other").delay(0.3, job_id="other")
                await poison.schedule().push(job_id="poison")
            elif point == "retry":
                await fails.schedule().push(job_id="fails")
                while app.configs.storage.get(["fails"])[0].status != "scheduled":
                    await asyncio.sleep(0.01)
            say("ready")
            if point == "go on":
                await app.wait_all()
            elif point == "cron go on":
                await app.wait_all()
            else:
                await asyncio.Event().wait()
        say("end")

    asyncio.run(main())
"""


def row(directory: Path, job_id: str) -> JobRecord:
    (record,) = _asked(directory, lambda storage: storage.get([job_id]))
    return record


def history(directory: Path, job_id: str) -> list[AttemptRecord]:
    return _asked(directory, lambda storage: storage.attempts(job_id))


def _asked(directory: Path, question):  # type: ignore[no-untyped-def]
    with opened(durable(directory)) as storage:
        return question(storage)


def kill_at(directory: Path, point: str, word: str) -> None:
    program = Program(directory, APP, point)
    program.until(word)
    program.kill()


def go_on(directory: Path, point: str = "go on") -> list[str]:
    return Program(directory, APP, point).finish().split("\n")


@pytest.mark.promise("b19")
def test_a_job_that_was_running_runs_again_and_the_attempt_is_counted(tmp_path: Path) -> None:
    kill_at(tmp_path, "running", "begun it")
    assert row(tmp_path, "it").status == "running"
    lines = go_on(tmp_path)
    assert [line for line in lines if line.endswith("it")] == ["begun it", "done it"]
    record = row(tmp_path, "it")
    assert (record.status, record.attempt, record.crashes) == ("success", 2, 1)
    (lost,) = history(tmp_path, "it")
    assert (lost.outcome, lost.attempt) == ("lost", 1)


@pytest.mark.promise("b19")
def test_what_was_acknowledged_is_there(tmp_path: Path) -> None:
    kill_at(tmp_path, "acknowledged", "ready")
    lines = go_on(tmp_path)
    assert sorted(line for line in lines if line.startswith("done")) == sorted(f"done {n}" for n in range(200))


@pytest.mark.promise("b19")
def test_what_waits_for_its_time_loses_nothing(tmp_path: Path) -> None:
    kill_at(tmp_path, "waiting", "ready")
    assert "done it" in go_on(tmp_path)
    record = row(tmp_path, "it")
    assert (record.attempt, record.crashes) == (1, 0)


@pytest.mark.promise("b19")
def test_a_job_that_takes_processes_down_is_given_up_and_the_rest_runs(tmp_path: Path) -> None:
    kill_at(tmp_path, "poison", "poisoned")
    for crashes in (1, 2):
        program = Program(tmp_path, APP, "go on")
        program.until("poisoned")
        program.process.communicate(timeout=60)
        assert program.process.returncode == -signal.SIGKILL
        assert row(tmp_path, "poison").attempt == crashes + 1
    lines = go_on(tmp_path)
    assert "poisoned" not in lines
    assert lines[-2:] == ["end", ""]
    record = row(tmp_path, "poison")
    assert (record.status, record.attempt, record.crashes) == ("failed", 3, 3)
    assert record.error is not None
    assert record.error.startswith("JobLostError")
    assert [line.outcome for line in history(tmp_path, "poison")] == ["lost"] * 3
    assert row(tmp_path, "other").status == "success", "it did not block the others"
    assert "poisoned" not in go_on(tmp_path)


@pytest.mark.promise("b19")
def test_retries_are_counted_over_a_crash(tmp_path: Path) -> None:
    kill_at(tmp_path, "retry", "ready")
    before = row(tmp_path, "fails")
    assert (before.status, before.attempt) == ("scheduled", 1)
    with opened(durable(tmp_path)) as storage:
        storage.reschedule("fails", due_at=0, now=1)
    assert go_on(tmp_path).count("failing") == 3, "one of four attempts was before the crash"
    assert row(tmp_path, "fails").attempt == 4


@pytest.mark.promise("b19")
def test_a_cron_run_that_was_lost_runs_again_for_the_same_due_time(tmp_path: Path) -> None:
    kill_at(tmp_path, "cron running", "beat")
    job_id = "beat__jobify_cron_definition"
    due_at = row(tmp_path, job_id).offset_at
    assert go_on(tmp_path, "cron go on").count("beat") == 2
    record = row(tmp_path, job_id)
    assert (record.status, record.run_count, record.crashes) == ("success", 2, 0), "the crash was of another run"
    lost, again, *_ = history(tmp_path, job_id)
    assert (lost.outcome, again.outcome) == ("lost", "succeeded")
    assert lost.due_at == again.due_at == due_at


SIGNALLED = """
    import asyncio, os, signal, sys
    from contextlib import asynccontextmanager
    from pathlib import Path
    from jobify import Cron, Jobify
    from jobify.storage import SQLiteStorage

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs us in the background ignores it

    @asynccontextmanager
    async def lifespan(app):
        yield
        print("lifespan left", flush=True)

    app = Jobify(storage=SQLiteStorage("jobs.db", synchronous="normal"), lifespan=lifespan)

    def say(word):
        print(word, flush=True)

    @app.task(name="work")
    async def work():
        try:
            print("begun", flush=True)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            print("cleaned up", flush=True)

    async def main():
        try:
            async with app:
                await work.schedule().push(job_id="it")
                asyncio.get_running_loop().call_soon(say, "waiting")
                await app.wait_all()
                print("waited", flush=True)
        except asyncio.CancelledError:
            print("interrupted", flush=True)
            raise
        print("after", flush=True)

    asyncio.run(main())
"""


@pytest.mark.promise("b23", "rule-19")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_jobs_clean_up_and_is_then_delivered(tmp_path: Path, number: signal.Signals) -> None:
    program = Program(tmp_path, SIGNALLED)
    program.until("begun")
    program.until("waiting")
    program.process.send_signal(number)
    out, err = program.process.communicate(timeout=60)
    lines = out.split("\n")
    assert lines[:3] == ["waited", "cleaned up", "lifespan left"]
    assert "after" not in lines
    if number is signal.SIGTERM:
        assert program.process.returncode == -signal.SIGTERM
        assert err == ""
    else:
        assert program.process.returncode == -signal.SIGINT
        assert "KeyboardInterrupt" in err
    record = row(tmp_path, "it")
    assert (record.status, record.attempt, record.crashes) == ("scheduled", 0, 0)


@pytest.mark.promise("b23", "rule-19")
def test_a_handler_of_the_users_own_is_called_after_the_shutdown(tmp_path: Path) -> None:
    code = SIGNALLED.replace(
        "    asyncio.run(main())",
        "    import signal\n"
        "    signal.signal(signal.SIGTERM, lambda *_: print('handled', flush=True))\n"
        "    asyncio.run(main())",
    )
    program = Program(tmp_path, code)
    program.until("begun")
    program.until("waiting")
    program.process.send_signal(signal.SIGTERM)
    assert program.finish().split("\n") == ["waited", "cleaned up", "lifespan left", "handled", "after", ""]
