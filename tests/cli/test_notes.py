"""The note of a job answers why it does not run: story F10, and the ways in which jobs wait for ever."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli_shop import SECOND, Shop
from jobify import Jobify
from jobify.cli.top.screen import Snapshot, draw
from jobify.client.wait_reasons import ClusterState, read_cluster_state
from jobify.model.records import OwnerProfile, OwnerRole
from support import durable, until
from workers import Make

pytestmark = pytest.mark.promise("f10")


def state_of(shop: Shop, *, later: float = 0.0) -> ClusterState:
    return read_cluster_state(shop.storage, now=shop.now + round(later * SECOND), zone=_zone())


def _zone() -> Any:
    from datetime import UTC

    return UTC


def note(shop: Shop, id: str, *, later: float = 0.0) -> str:
    (row,) = shop.storage.get([id])
    return state_of(shop, later=later).note(row)


# -- a worker that is gone ---------------------------------------------------------------------------------------------


def test_jobs_of_a_worker_that_was_killed_say_so(site: Make) -> None:
    here = site()
    worker = here.worker("--concurrency", "3")
    ids = [here.enqueue("hold_in_thread") for _ in range(3)]
    here.until_noted("hold_in_thread", 3)
    assert [here.app.get_job(id).note for id in ids] == [""] * 3
    worker.kill()
    for id in ids:
        job = here.app.get_job(id)
        assert job.status == "running"
        assert job.note.startswith(f"its worker ({worker.pid}) is gone, last seen ")
        assert job.note.endswith("; the next worker that starts takes it up")
        assert job.to_dict()["note"].endswith("; the next worker that starts takes it up")
    here.go()
    again = here.worker()
    for id in ids:
        here.until(id, "success")
        assert here.app.get_job(id).note == ""
    assert again.stop() == 0


def test_commands_show_it(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    running = shop.running(_dead_worker(shop, monkeypatch))
    text = "; the next worker that starts takes it up"
    assert shop("jobs", "show", running, "--json").json["note"].endswith(text)
    (row,) = shop("jobs", "list").table
    assert (row["status"], row["note"].endswith(text)) == ("running", True)
    (job,) = shop.storage.get([running])
    screen = draw(Snapshot(state_of(shop), [], [job], 0), [], name="shop.db", width=160, height=40)
    assert any("is gone, last seen" in line.plain for line in screen)


def _dead_worker(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> int:
    """An owner whose process is not there any more."""
    from jobify.storage import SQLiteStorage

    child = os.fork()
    if child == 0:
        storage = SQLiteStorage(shop.database, synchronous="normal")
        storage.open()
        storage.register(OwnerProfile(OwnerRole.WORKER, None, ("pack",), 4), now=shop.now)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (dead,) = [owner for owner in shop.storage.owners() if not owner.is_alive]
    return dead.id


def test_who_takes_it_up(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = _dead_worker(shop, monkeypatch)
    running, cancelled = shop.running(dead), shop.running(dead)
    shop.storage.cancel([cancelled], reason="cancelled", now=shop.now, delete_at=None)
    assert note(shop, running, later=75).split(") ")[1] == (
        "is gone, last seen 1 m 15 s ago; the next worker that starts takes it up"
    )
    assert note(shop, cancelled).endswith("; the next worker that starts cancels it")
    other = shop.worker("pack", queues=("other",))
    assert note(shop, running).endswith("; no worker serves this queue")
    assert note(shop, cancelled).endswith("; another worker cancels it within seconds")
    shop.storage.deregister(other)
    shop.worker("pack")
    assert note(shop, running).endswith("; another worker takes it up within seconds")


def test_a_worker_that_lives_and_does_not_answer(shop: Shop) -> None:
    running, waiting = shop.running(shop.worker()), shop.add()
    assert note(shop, running) == ""
    assert note(shop, running, later=45).endswith(" has not answered for 45.0 s")
    assert note(shop, waiting, later=45) == "no worker of this queue has answered for 45.0 s"


# -- jobs that wait ----------------------------------------------------------------------------------------------------


def test_a_job_that_waits_for_a_slot_or_a_retry(shop: Shop) -> None:
    owner = shop.worker()
    job = shop.add()
    assert note(shop, job) == ""
    shop.storage.heartbeat(owner, now=shop.now + 20 * SECOND)
    assert note(shop, job, later=20) == "waits for a free slot"
    later = shop.add(ready=False, due_at=shop.now + 5 * SECOND)
    (row,) = shop.storage.get([later])
    state = state_of(shop)
    assert state.note(row) == "due in 5.0 s"
    assert state.note(row._replace(attempt=1, error="E: no")) == "tries again in 5.0 s: E: no"
    failed = row._replace(rule="{}", failure_count=1, error="E: no")
    assert state.note(failed) == "due in 5.0 s; last run: E: no"
    apart = row._replace(is_apart=True, blockers=1)
    assert state.note(apart) == "waits to run apart: processes that ran it have died"
    assert state.note(apart._replace(rule="{}")) == "waits to run apart: processes that ran it have died"
    assert state.note(apart._replace(blockers=2)) == "waits for 1 other"
    assert state.note(apart._replace(blockers=2, rule="{}")) == "paused"


BARE = """
from jobify import Jobify
from jobify.storage import SQLiteStorage
app = Jobify(storage=SQLiteStorage("jobs.db"))
"""


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (None, "no worker runs"),
        (lambda here: here.worker("--queues", "other"), "no worker serves this queue"),
        (lambda here: here.worker(app="bare"), "no worker knows this task"),
    ],
)
def test_a_job_that_no_worker_takes_says_why(site: Make, start: Callable[[Any], Any] | None, expected: str) -> None:
    here = site()
    (here.folder / "bare.py").write_text(BARE)
    id = here.enqueue("quick", 1)
    worker = None if start is None else start(here)
    assert here.app.get_job(id).note == expected
    (unserved,) = here.app.unserved()
    assert unserved.waiting == 1
    if worker is not None:
        assert worker.stop() == 0


def test_a_worker_in_another_folder_is_not_seen(tmp_path: Path, site: Make) -> None:
    """The web app and the worker have each a file of their own; the note says that no worker is there."""
    here = site()
    (tmp_path / "elsewhere").mkdir()
    web = Jobify(storage=durable(tmp_path / "elsewhere"))
    worker = here.worker()
    job = web.enqueue("quick", (1,))
    assert job.note == "no worker runs"
    assert web.workers() == []
    web.close()
    assert worker.stop() == 0


def test_a_paused_queue_and_a_schedule_whose_task_is_gone(site: Make) -> None:
    here = site(
        """
        @app.task(name="gone", cron="0 0 1 1 *")
        async def gone(): ...
        """
    )
    assert here.worker().stop() == 0
    site()  # the next release has no such task
    worker = here.worker()
    (schedule,) = here.app.schedules()
    assert here.app.get_job(schedule.id).note == "no worker knows this task"
    here.app.pause_queue("default")
    id = here.enqueue("quick", 1)
    assert here.app.get_job(id).note == "the queue is paused"
    here.app.resume_queue("default")
    here.until(id, "success")
    assert worker.stop() == 0


async def test_it_is_read_without_blocking_a_loop_that_runs_the_app(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))

    @app.task(name="wait")
    async def wait() -> None:
        await asyncio.Event().wait()

    async with app:
        job = await wait.push()
        assert app.get_job(job.id).note == ""
        await job.cancel()
        assert app.get_job(job.id).note == "cancelled"
    until(lambda: app.get_job(app.enqueue("wait").id).note == "no worker runs")
    app.close()


def test_a_job_that_waits_for_others_names_the_one_that_it_is_about(site: Make) -> None:
    here = site()
    first = here.enqueue("unknown", queue="other")
    second = here.enqueue("quick", 1, depends_on=[first])
    third = here.enqueue("quick", 2, depends_on=[second, here.enqueue("quick", 3, delay=3600)])
    job = here.app.get_job(third)
    assert job.note == f"waits for 2 others: unknown {first} (no worker runs)"
    worker = here.worker()
    assert job.note == f"waits for 2 others: unknown {first} (no worker knows this task)"
    assert here.app.get_job(second).note == f"waits for 1 other: unknown {first} (no worker knows this task)"
    held = here.enqueue("hold_on_loop")
    waits = here.app.get_job(here.enqueue("quick", 4, depends_on=[held]))
    here.until_noted("hold_on_loop")
    assert waits.note == f"waits for 1 other: hold_on_loop {held} (running)"
    here.go()
    here.until(waits.id, "success")
    assert worker.stop() == 0


def test_a_queue_names_the_tasks_that_no_worker_of_it_knows(shop: Shop) -> None:
    shop.add(task="gone")
    shop.add(task="pack")
    (row,) = shop("queues", "list").table
    assert row["note"] == "no worker serves this queue"
    shop.worker("pack")
    (row,) = shop("queues", "list").table
    assert row["note"] == "no worker knows gone"
