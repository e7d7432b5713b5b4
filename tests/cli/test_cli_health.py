"""`jobify health`: a probe."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cli_shop import SECOND, Shop
from jobify.storage import SQLiteStorage
from jobify.storage.sqlite.health import read_vitals
from support import finished
from workers import Make

RULE = '{"expression": "*/5 * * * *", "zone": "UTC"}'


def state(folder: Path) -> dict[str, Any]:
    """The files of a folder, with what is in them."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*") if path.is_file()}


def probe(folder: Path, *arguments: str) -> tuple[int, Any, str]:
    """Exit code, document and standard error of a process."""
    done = finished("-m", "jobify", "health", "--json", *arguments, cwd=folder)
    return done.returncode, json.loads(done.stdout), done.stderr


def test_all_is_well_with_a_worker_and_nothing_that_waits(shop: Shop) -> None:
    shop.worker()
    shop.schedule("nightly")
    answer = shop("health", "--json")
    assert answer.code == 0
    document = answer.json
    assert (document["status"], document["problems"]) == ("healthy", [])
    assert document["database"] == {"path": shop.database, "error": None}
    assert document["workers"]["alive"] == 1
    assert document["workers"]["processes"][0]["pid"] == os.getpid()
    assert (document["oldest_waiting"], document["dead_schedules"], document["paused_queues"]) == (None, [], [])
    assert "status\thealthy\n" in shop("health").out


def test_no_worker_is_unhealthy(shop: Shop) -> None:
    answer = shop("health", "--json")
    assert answer.code == 1
    assert json.loads(answer.out)["problems"] == ["No worker is alive."]
    assert answer.err == "jobify: Not healthy: No worker is alive.\n"
    assert shop("health", "--min-workers", "0").code == 0
    shop.worker()
    assert "Workers alive: 1, fewer than 2." in shop("health", "--min-workers", "2").err


def test_a_job_that_waits_for_too_long_is_unhealthy(shop: Shop) -> None:
    shop.worker()
    shop.add(due_at=shop.now - 120 * SECOND)
    old = shop.add(due_at=shop.now - 600 * SECOND, priority=-5, queue="late")
    shop.add(due_at=shop.now + 3600 * SECOND, ready=False)
    answer = shop("health", "--json")
    assert answer.code == 1
    oldest = json.loads(answer.out)["oldest_waiting"]
    assert (oldest["id"], oldest["task_name"], oldest["queue_name"]) == (old, "pack", "late")
    assert 600 <= oldest["seconds"] < 3600
    assert f"Job {old} (pack) waits in the queue 'late' for 10 m" in answer.err
    assert shop("health", "--max-wait", "2h").code == 0
    assert shop("health", "--queue", "default").code == 0
    assert shop("health", "--queue", "default", "--max-wait", "90").code == 1
    shop("queues", "pause", "late")
    assert shop("health").code == 0


def test_a_job_that_became_due_while_no_worker_ran_counts(shop: Shop) -> None:
    """It was not moved to the ready ones."""
    shop.add(due_at=shop.now - 600 * SECOND, ready=False)
    answer = shop("health", "--min-workers", "0")
    assert (answer.code, "waits in the queue 'default' for 10 m" in answer.err) == (1, True)


def test_blocked_jobs_and_running_ones_do_not_wait(shop: Shop) -> None:
    owner = shop.worker()
    running = shop.running(owner, due_at=shop.now - 600 * SECOND)
    shop.add(parents=(running,), due_at=shop.now - 600 * SECOND)
    assert shop("health").code == 0


def test_a_dead_schedule_is_unhealthy(shop: Shop) -> None:
    owner = shop.worker()
    shop.ended(owner, "permanently_failed", is_dead=True, id="nightly", rule=RULE, offset_at=shop.now)
    shop.ended(owner, "failed", is_dead=True)
    answer = shop("health", "--json")
    assert answer.code == 1
    (dead,) = json.loads(answer.out)["dead_schedules"]
    assert (dead["id"], dead["task_name"], dead["error"]) == ("nightly", "pack", "ValueError: no box")
    assert "Schedules that have stopped after failures: nightly." in answer.err
    assert shop("health", "--max-dead-schedules", "1").code == 0
    assert shop("health", "--only", "workers", "--only", "waiting").code == 0
    assert shop("health", "--only", "schedules").code == 1


@pytest.mark.promise("f7")
@pytest.mark.parametrize(("rule", "is_dead"), [('{"max_runs":0}', False), ('{"max_runs":1}', True), ("rubbish", True)])
def test_a_schedule_that_had_all_its_runs_is_healthy(shop: Shop, rule: str, is_dead: bool) -> None:
    shop.ended(shop.worker(), "permanently_failed", is_dead=True, id="odd", rule=rule, offset_at=shop.now)
    found = [job.id for job in read_vitals(shop.database, now=shop.now, timeout=20).stopped]
    assert found == (["odd"] if is_dead else [])


def test_only_workers_of_the_queue_count(shop: Shop) -> None:
    shop.worker(queues=("mail",))
    assert shop("health", "--queue", "mail").code == 0
    assert shop("health", "--queue", "images").code == 1
    shop.worker(queues=None)
    assert shop("health", "--queue", "images").code == 0


@pytest.mark.parametrize("wrong", [["--max-wait", "soon"], ["--only", "weather"], ["--timeout", "0"]])
def test_wrong_usage_is_one_line(shop: Shop, wrong: list[str]) -> None:
    answer = shop("health", *wrong)
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)


# -- the database ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [None, b"", b"no database, but a text " * 100], ids=["missing", "empty", "text"])
def test_what_is_no_database_is_unhealthy_and_is_not_made(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "jobs.db").write_bytes(content)
    before = state(tmp_path)
    code, document, error = probe(tmp_path, "--database", "jobs.db", "--only", "workers")
    assert (code, document["status"]) == (1, "unhealthy")
    assert document["database"]["error"]
    assert error.startswith("jobify: Not healthy: ")
    assert state(tmp_path) == before


def test_another_version_is_unhealthy_and_is_not_migrated(shop: Shop) -> None:
    shop.storage.close()
    for version, complaint in ((1, "jobify db migrate"), (999, "Update Jobify")):
        with closing(sqlite3.connect(shop.database)) as connection:
            connection.execute(f"PRAGMA user_version = {version}")
        answer = shop("health", "--database", "shop.db")
        assert answer.code == 1
        assert complaint in answer.err
        with closing(sqlite3.connect(shop.database)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (version,)


def test_nothing_is_written_and_no_file_is_made(tmp_path: Path) -> None:
    storage = SQLiteStorage(tmp_path / "jobs.db")
    storage.open()
    storage.close()
    before = state(tmp_path)
    assert [*before] == ["jobs.db"]
    code, document, _ = probe(tmp_path, "--database", "jobs.db", "--min-workers", "0")
    assert (code, document["status"]) == (0, "healthy")
    assert state(tmp_path) == before


def test_nothing_is_written_while_a_worker_runs(site: Make) -> None:
    here = site()
    here.worker()
    code, document, error = probe(here.folder, "--database", "jobs.db")
    assert (code, document["workers"]["alive"], error) == (0, 1, "")
    assert here.app.enqueue("quick", (1,)).result(timeout=40) == 1


def test_a_dead_worker_is_not_alive(site: Make) -> None:
    here = site()
    here.worker().kill()
    code, document, _ = probe(here.folder, "--database", "jobs.db")
    assert (code, document["workers"]["alive"]) == (1, 0)
    assert [process["is_alive"] for process in document["workers"]["processes"]] == [False]


def test_a_writer_does_not_hold_the_probe_up(shop: Shop) -> None:
    shop.worker()
    with closing(sqlite3.connect(shop.database, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert shop("health").code == 0


def test_a_file_that_is_locked_for_good_is_unhealthy_after_the_timeout(tmp_path: Path) -> None:
    storage = SQLiteStorage(tmp_path / "jobs.db")
    storage.open()
    storage.close()
    with closing(sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN IMMEDIATE")
        code, document, _ = probe(tmp_path, "--database", "jobs.db", "--timeout", "0.2", "--min-workers", "0")
    assert code == 1
    assert "not available" in document["database"]["error"] or "was not read within" in document["database"]["error"]


def test_a_long_statement_ends_with_the_timeout(shop: Shop) -> None:
    values = ((f"job-{number}",) for number in range(20_000))
    shop.add(id="like")
    with closing(sqlite3.connect(shop.database)) as connection:
        connection.executemany(
            "INSERT INTO jobs (id, status, ready, fence, task, queue, priority, due_at, created_at, attempt, payload) "
            "SELECT ?, status, ready, fence, task, queue, priority, due_at, created_at, attempt, payload FROM jobs "
            "WHERE id = 'like'",
            values,
        )
        connection.commit()
    assert read_vitals(shop.database, now=shop.now, timeout=60).oldest is not None
    with pytest.raises(Exception, match="was not read within 1e-09 seconds"):
        read_vitals(shop.database, now=shop.now, timeout=1e-9)


def test_an_app_without_a_database_is_one_line(shop: Shop) -> None:
    shop.folder.joinpath("memory.py").write_text("from jobify import Jobify\napp = Jobify(storage=False)\n")
    answer = shop("health", "--app", "memory:app")
    assert (answer.code, "has no database; its storage is" in answer.err) == (1, True)
