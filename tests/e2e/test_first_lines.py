"""The first lines of a worker and of an app say what they are and which database they use: story F8."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli_shop import Shop
from jobify import Jobify, __version__
from jobify.worker.worker import Worker
from support import durable, eventually, run
from workers import PROCESS_TASK, Command, Make

pytestmark = pytest.mark.promise("f8")

ROUTED = """
    @app.task(name="resize", queue="images")
    async def resize(): ...
"""


def facts(log: str) -> dict[str, str]:
    """The block of a worker's log, by name."""
    lines = log[log.index("starts.") :].splitlines()[1:]
    block = [line[8:] for line in lines if line.startswith(" " * 8)]
    assert all(len(line) <= 80 for line in lines if line[:1] == " " and "database" not in line)
    return {line[:10].strip(): line[10:] for line in block if line[:1] != " "}


def test_a_worker_says_what_it_is_and_where_its_database_is(site: Make) -> None:
    here = site(PROCESS_TASK, ROUTED)
    worker = here.worker("--queues", "images,imgaes", "--concurrency", "3", "--grace", "12")
    found = facts(worker.log)
    assert list(found) == ["version", "app", "database", "queues", "tasks", "slots", "grace"]
    assert found["version"].startswith(f"{__version__} (Python 3.")
    assert found["app"] == "plant:app"
    assert found["database"] == os.path.realpath(here.folder / "jobs.db")
    assert found["queues"] == "images, imgaes (no task names it)"
    assert found["tasks"].startswith("5: quick, hold_on_loop")
    assert found["slots"].startswith("3 async, 3 threads, ")
    assert found["slots"].endswith(" child processes")
    assert found["grace"] == "12 s"
    assert worker.log.index("database") < worker.log.index("At work as process")
    assert worker.stop() == 0


def test_the_block_fits_a_terminal_whatever_the_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    app = Jobify(storage=durable(tmp_path))
    for number in range(200):
        app.task(name=f"package.module_{number}:function-of-the-shop")(_nothing)
    app.configs.limits = _limits(app, queues=tuple(f"queue-{number}" for number in range(50)))
    run(_started(app))
    (record,) = [record for record in caplog.records if "starts." in record.message]
    lines = record.message.splitlines()
    assert all(len(line) <= 80 for line in lines if line[:1] == " " and "database" not in line)
    assert len(lines) <= 20
    assert (record.tasks, record.version, record.app) == (200, __version__, "shop:app")  # type: ignore[attr-defined]
    assert record.database == str(tmp_path / "jobs.db")  # type: ignore[attr-defined]


async def _nothing() -> None: ...


def _limits(app: Jobify, **changes: object) -> object:
    from dataclasses import replace

    return replace(app.configs.limits, **changes)


async def _started(app: Jobify) -> None:
    import asyncio

    worker = Worker(app, name="shop:app")
    task = asyncio.ensure_future(worker.run())
    await eventually(lambda: app.configs.app_started)
    worker._stop_requested.set()
    await task


def test_of_several_workers_only_the_first_one_describes_itself(site: Make) -> None:
    here = site()
    supervisor = here.worker("--processes", "3")
    supervisor.until("At work", 3)
    os.kill(supervisor.children()[0], 9)
    supervisor.until("At work", 4)
    assert supervisor.log.count("database  ") == 1
    assert supervisor.stop() == 0


def test_an_embedded_app_says_it_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def main(app: Jobify) -> None:
        app.task(name="add")(_nothing)
        async with app:
            pass

    run(main(Jobify(storage=durable(tmp_path))))
    (record,) = [record for record in caplog.records if "The app starts" in record.message]
    assert f"database {tmp_path / 'jobs.db'}, queues all, 1 tasks, slots 1000 async" in record.message
    caplog.clear()
    run(main(Jobify(storage=False)))
    (record,) = [record for record in caplog.records if "The app starts" in record.message]
    assert "database in the memory of this process" in record.message


def test_a_process_that_only_enqueues_says_once_where(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    app = Jobify(storage=durable(tmp_path))
    task = app.task(name="add")(_nothing)
    for _ in range(2):
        task.delay()
        app.close()
    (record,) = [record for record in caplog.records if "Jobs are read and written" in record.message]
    assert str(tmp_path / "jobs.db") in record.message


def test_an_app_without_tasks_is_warned_of(site: Make) -> None:
    here = site()
    (here.folder / "bare.py").write_text(
        "from jobify import Jobify\nfrom jobify.storage import SQLiteStorage\n"
        "app = Jobify(storage=SQLiteStorage('jobs.db'))\n"
    )
    worker = here.worker(app="bare")
    assert facts(worker.log)["tasks"] == "none"
    worker.until("The app has no tasks, so it runs no job")
    assert worker.stop() == 0


def test_two_relative_databases_are_told_apart(tmp_path: Path) -> None:
    code = "from jobify import Jobify\napp = Jobify()\n@app.task\nasync def add(): ...\n"
    paths, commands = [], []
    for name in ("web", "work"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "shop.py").write_text(code)
        commands.append(Command(folder, ["worker", "shop"]))
        commands[-1].until("At work")
        paths.append(facts(commands[-1].log)["database"])
    try:
        assert paths == [os.path.realpath(tmp_path / name / "jobify.db") for name in ("web", "work")]
        for folder, path in zip(("web", "work"), paths, strict=True):
            command = [sys.executable, "-m", "jobify", "workers", "--app", "shop"]
            listed = subprocess.run(command, cwd=tmp_path / folder, capture_output=True, text=True, check=True)
            assert f"Database: {path}" in listed.stderr
            document = subprocess.run([*command, "--json"], cwd=tmp_path / folder, capture_output=True, check=True)
            assert json.loads(document.stdout)["database"] == path
            checked = [sys.executable, "-m", "jobify", "db", "check", "--app", "shop"]
            done = subprocess.run(checked, cwd=tmp_path / folder, capture_output=True, text=True, check=True)
            assert f"database\t{path}" in done.stdout
    finally:
        for each in commands:
            each.end()


def test_workers_names_the_database_also_if_there_is_none_yet(shop: Shop) -> None:
    assert f"Database: {shop.database}" in shop("workers").err
    assert shop("workers", "--json").json["database"] == shop.database
