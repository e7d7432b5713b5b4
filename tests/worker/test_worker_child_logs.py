"""`jobify worker`: what tasks in child processes log is in the worker's log, in its form, with the job."""

from __future__ import annotations

import os
import re

import pytest

from support import until
from workers import Make

pytestmark = pytest.mark.promise("f9")

TALKS = """
    import logging

    log = logging.getLogger("plant.talks")

    @app.task(name="talk", run_mode=RunMode.PROCESS)
    def talk(text):
        log.debug("whispers %s", text)
        log.info("says %s", text)
        return os.getpid()

    @app.task(name="talk_in_thread")
    def talk_in_thread(text):
        log.info("says %s", text)

    @app.task(name="talk_on_loop")
    async def talk_on_loop(text):
        log.info("says %s", text)

    @app.task(name="shout_and_die", run_mode=RunMode.PROCESS)
    def shout_and_die():
        log.warning("about to die")
        os.kill(os.getpid(), 9)
"""
CONFIGURED = """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s|%(name)s|%(message)s|%(job_id)s|%(attempt)s",
        filename="app.log")
    logging.getLogger("jobify").propagate = False
"""


@pytest.mark.parametrize("options", [[], ["--processes", "2"]], ids=["one", "supervised"])
def test_the_level_of_a_worker_holds_in_its_children(site: Make, options: list[str]) -> None:
    here = site(TALKS)
    worker = here.worker("--log-level", "info", *options)
    id = here.enqueue("talk", "hello")
    here.until(id, "success")
    line = rf"^\S+ \S+ INFO    \[(\d+)\] plant\.talks: says hello \[job {id}, talk, attempt 1\]$"
    until(lambda: re.search(line, worker.log, re.MULTILINE), worker.log)
    found = re.search(line, worker.log, re.MULTILINE)
    assert found is not None
    assert int(found[1]) not in {os.getpid(), worker.pid, *worker.children()[: len(options)]}
    assert "whispers" not in worker.log
    assert worker.log.count("says hello") == 1
    assert worker.stop() == 0


@pytest.mark.parametrize("task", ["talk_in_thread", "talk_on_loop"])
def test_a_worker_names_the_job_in_every_run_mode(site: Make, task: str) -> None:
    here = site(TALKS)
    worker = here.worker("--log-level", "info")
    id = here.enqueue(task, "hello")
    here.until(id, "success")
    until(lambda: f"plant.talks: says hello [job {id}, {task}, attempt 1]\n" in worker.log, worker.log)
    assert worker.stop() == 0


def test_a_quiet_worker_has_quiet_children(site: Make) -> None:
    here = site(TALKS)
    worker = here.worker("--log-level", "info")
    here.until(here.enqueue("talk", "first"), "success")
    assert worker.stop() == 0
    quiet = here.worker("--log-level", "warning", is_awaited=False)
    here.until(here.enqueue("talk", "second"), "success")
    assert quiet.stop() == 0
    assert "says second" not in quiet.log


def test_a_line_in_the_log_cannot_be_forged_by_a_child(site: Make) -> None:
    here = site(TALKS)
    worker = here.worker("--log-level", "info")
    here.until(here.enqueue("talk", "x\n2026 ERROR forged\x1b[2J"), "success")
    worker.until("says x")
    assert "\n2026 ERROR forged" not in worker.log
    assert "\x1b" not in worker.log
    assert worker.stop() == 0


def test_children_use_the_configuration_of_the_app(site: Make) -> None:
    here = site(TALKS, CONFIGURED)
    worker = here.worker(is_awaited=False)
    id = here.enqueue("talk", "hello")
    here.until(id, "success")
    lines = (here.folder / "app.log").read_text().splitlines()
    assert lines == [f"INFO|plant.talks|says hello|{id}|1"]
    assert worker.stop() == 0


def test_the_last_words_of_a_killed_child_come_before_its_death(site: Make) -> None:
    here = site(TALKS)
    worker = here.worker("--log-level", "info")
    id = here.enqueue("shout_and_die")
    here.until(id, "failed")
    until(lambda: "took" in worker.log or "failed" in worker.log, worker.log)
    first = worker.log.index("about to die")
    assert first < worker.log.index(id, worker.log.index("\n", first))
    assert worker.stop() == 0
