"""Two releases of an app at one database, each in processes of its own: the cases of ``docs/guides/releasing.md``."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from jobify import Jobify
from jobify.model.records import JobRecord
from jobify.storage.sqlite.schema import migrations
from support import durable, storage_code, until
from workers import Command

pytestmark = pytest.mark.promise("f34")

HEAD = """
import asyncio, dataclasses
from jobify import Cron, Jobify, RunMode
app = Jobify(storage=STORAGE{options})
"""
DATA = Path(__file__).parents[1] / "data"


class Releases:
    """A folder with a database, and one folder for each release with its module ``shop``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._commands: list[Command] = []
        self.client = Jobify(storage=durable(folder))
        self._storage = durable(folder)

    def write(self, name: str, code: str, *, options: str = "", **modules: str) -> None:
        """The release ``name``, with the tasks in ``code``, and other modules."""
        place = self.folder / name
        place.mkdir()
        for module, text in modules.items():
            (place / f"{module}.py").write_text(textwrap.dedent(text))
        imports = "".join(f"import {module}\n" for module in modules)
        (place / "shop.py").write_text(
            storage_code(self.folder) + imports + HEAD.format(options=options) + textwrap.dedent(code)
        )

    def store(self, name: str, call: str) -> str:
        """The id of the job that an expression in ``shop`` of this release enqueues."""
        code = f"from shop import *; import shop; print(({call}).id)"
        return self._python(name, "-c", code).strip()

    def _python(self, name: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder / name,
            env={**os.environ, "JOBIFY_APP": "shop:app"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def jobify(self, name: str, *arguments: str) -> str:
        """What a command of this release says."""
        return self._python(name, "-m", "jobify", *arguments)

    def worker(self, name: str, *options: str) -> Command:
        """A worker of this release, at work."""
        command = Command(self.folder / name, ["worker", "shop:app", *options])
        self._commands.append(command)
        command.until("At work")
        return command

    def row(self, job_id: str) -> JobRecord:
        self._storage.open()
        (row,) = self._storage.get([job_id])
        return row

    def until_parked(self, job_id: str) -> str:
        """Why it is parked."""
        until(lambda: self.row(job_id).parking, f"{job_id} parked")
        parking = self.row(job_id).parking
        assert parking is not None
        return parking.reason

    def result(self, job_id: str) -> Any:
        return self.client.get_job(job_id).result(timeout=40)

    def close(self) -> None:
        for command in self._commands:
            command.end()
        self._storage.close()
        self.client.close()


@pytest.fixture
def releases(tmp_path: Path) -> Iterator[Releases]:
    made = Releases(tmp_path)
    yield made
    made.close()


SHIP = """
@app.task(name="ship")
async def ship(order):
    return f"old {order}"
"""


def test_a_renamed_task(releases: Releases) -> None:
    releases.write("old", SHIP)
    releases.write(
        "new", '@app.task(name="parcels.send", aliases=("ship",))\nasync def send(order):\n    return f"new {order}"\n'
    )
    job_id = releases.store("old", "ship.delay(7)")
    releases.worker("new")
    assert releases.result(job_id) == "new 7"
    assert releases.result(releases.store("new", "send.delay(8)")) == "new 8"


def test_an_argument_with_a_default(releases: Releases) -> None:
    releases.write("old", SHIP)
    releases.write(
        "new", '@app.task(name="ship")\nasync def ship(order, *, weight=1):\n    return f"new {order} {weight}"\n'
    )
    job_id = releases.store("old", "ship.delay(7)")
    releases.worker("new")
    assert releases.result(job_id) == "new 7 1"


@pytest.mark.parametrize("mode", ["async def", "def", "process"])
def test_a_required_argument_and_a_rollback(releases: Releases, mode: str) -> None:
    """Where it was forgotten to give it a default: nothing is lost, and the release before can run it."""
    word, option = ("def", ", run_mode=RunMode.PROCESS") if mode == "process" else (mode, "")
    tasks = '@app.task(name="ship"{option})\n{word} ship({parameters}):\n    return f"{what}"\n'
    releases.write("old", tasks.format(option=option, word=word, parameters="order", what="old {order}"))
    releases.write("new", tasks.format(option=option, word=word, parameters="order, weight", what="new {order}"))
    job_id = releases.store("old", "ship.delay(7)")
    new = releases.worker("new")
    assert "weight" in releases.until_parked(job_id)
    new.until("is parked, because its stored call does not fit this code")
    assert releases.result(releases.store("new", "ship.delay(8, 2)")) == "new 8"
    assert "parked" in releases.jobify("new", "jobs", "show", job_id)
    assert json.loads(releases.jobify("new", "health", "--json"))["parked"][0]["id"] == job_id
    assert new.stop() == 0
    releases.worker("old")
    assert releases.result(job_id) == "old 7"


def test_a_required_argument_in_two_steps(releases: Releases) -> None:
    releases.write("old", SHIP)
    releases.write(
        "first", '@app.task(name="ship")\nasync def ship(order, weight=None):\n    return f"first {order} {weight}"\n'
    )
    releases.write(
        "second", '@app.task(name="ship")\nasync def ship(order, weight):\n    return f"second {order} {weight}"\n'
    )
    old_id = releases.store("old", "ship.delay(7)")
    releases.worker("first")
    assert releases.result(old_id) == "first 7 None"
    new_id = releases.store("second", "ship.delay(8, 2)")
    assert releases.result(new_id) == "first 8 2"


def test_a_removed_argument(releases: Releases) -> None:
    """The step between takes it and ignores it; without that step the call waits."""
    releases.write("old", '@app.task(name="ship")\nasync def ship(order, express=False):\n    return f"old {order}"\n')
    releases.write("new", '@app.task(name="ship")\nasync def ship(order):\n    return f"new {order}"\n')
    releases.write(
        "between", '@app.task(name="ship")\nasync def ship(order, express=None):\n    return f"between {order}"\n'
    )
    with_it = releases.store("old", "ship.delay(7, express=True)")
    without = releases.store("old", "ship.delay(8)")
    new = releases.worker("new")
    assert releases.result(without) == "new 8"
    assert "express" in releases.until_parked(with_it)
    releases.worker("between")
    assert releases.result(with_it) == "between 7"
    assert new.stop() == 0


MODELS = "import dataclasses\n@dataclasses.dataclass\nclass Order:\n    number: int\n"
MOVED = "import dataclasses\n@dataclasses.dataclass\nclass Purchase:\n    number: int\n"


@pytest.mark.parametrize("mode", ["async def", "process"])
def test_a_moved_class(releases: Releases, mode: str) -> None:
    """Its values in arguments and in results are found by the earlier name."""
    word, option = ("def", ", run_mode=RunMode.PROCESS") if mode == "process" else (mode, "")
    task = f'@app.task(name="ship"{option})\n{word} ship(order):\n    return order\n'
    renamed = ', renamed_types={"models:Order": orders.Purchase}'
    releases.write("old", task, models=MODELS)
    releases.write("new", task, options=renamed, orders=MOVED)
    releases.write("forgetful", task, orders=MOVED)
    ended = releases.store("old", "ship.delay(models.Order(6))")
    waiting = releases.store("old", "ship.configure(delay=0.5).delay(models.Order(7))")
    old = releases.worker("old")
    until(lambda: releases.row(ended).status == "success")
    assert old.stop() == 0
    if releases.row(waiting).status != "scheduled":  # it ran already
        waiting = releases.store("old", "ship.delay(models.Order(7))")
    forgetful = releases.worker("forgetful")
    assert "models:Order" in releases.until_parked(waiting)
    assert forgetful.stop() == 0
    releases.worker("new")
    until(lambda: releases.row(waiting).status == "success")
    assert b"orders:Purchase" in (releases.row(waiting).result or b"")
    show = f"import shop; print(*(shop.app.get_job(id).result() for id in {[ended, waiting]}))"
    assert releases._python("new", "-c", show).strip() == "Purchase(number=6) Purchase(number=7)"
    assert "7" in releases.jobify("new", "jobs", "show", waiting)


def test_old_and_new_workers_side_by_side(releases: Releases) -> None:
    releases.write("old", SHIP)
    releases.write("new", '@app.task(name="ship")\nasync def ship(*, number, weight):\n    return f"new {number}"\n')
    for name in ("old", "new"):
        releases.worker(name)
    old = [releases.store("old", f"[ship.delay(n) for n in range({start}, {start + 5})][-1]") for start in (0, 5)]
    new = [
        releases.store("new", f"[ship.delay(number=n, weight=1) for n in range({start}, {start + 5})][-1]")
        for start in (0, 5)
    ]
    assert [releases.result(job_id) for job_id in old] == ["old 4", "old 9"]
    assert [releases.result(job_id) for job_id in new] == ["new 4", "new 9"]
    until(lambda: releases.client.stats()["complete"] == 20)


def test_schedules_across_releases(releases: Releases) -> None:
    """A declared one follows the code; one that was made at run time keeps its stored call."""
    releases.write(
        "old", SHIP + '@app.task(name="tick", cron=Cron("* * * * * * *"))\nasync def tick():\n    return "old"\n'
    )
    releases.write(
        "new",
        '@app.task(name="ship")\nasync def ship(order, weight):\n    return "new"\n'
        '@app.task(name="beat", aliases=("tick",), cron=Cron("* * * * * * *", args=("new",)))\n'
        "async def beat(word):\n    return word\n",
    )
    code = (
        "import asyncio, shop\n"
        "async def main():\n"
        "    async with shop.app:\n"
        "        await shop.ship.schedule(7).cron('* * * * * * *', job_id='hand-made')\n"
        "asyncio.run(main())\n"
    )
    releases._python("old", "-c", code)
    tick = "tick__jobify_cron_definition"
    until(lambda: releases.row(tick).status == "scheduled")
    new = releases.worker("new")
    assert "weight" in releases.until_parked("hand-made")
    beat = "beat__jobify_cron_definition"
    until(lambda: releases.row(beat).run_count >= 1)
    until(lambda: releases.row(beat).result == b'"new"')
    assert new.stop() == 0
    runs = releases.row("hand-made").run_count
    releases.worker("old")
    until(lambda: releases.row("hand-made").run_count > runs)


def test_db_migrate_before_the_workers(releases: Releases) -> None:
    releases.write("new", SHIP)
    shutil.copy(DATA / "schema_6_calls.db", releases.folder / "jobs.db")
    assert "migrated from version 6" in releases.jobify("new", "db", "migrate")
    with closing(sqlite3.connect(releases.folder / "jobs.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(migrations()),)
    releases.worker("new")
    (waiting,) = [job for job in releases.client.jobs(task="ship") if job.to_dict()["args"] == [5]]
    assert releases.result(waiting.id) == "old 5"
