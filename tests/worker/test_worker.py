"""One worker process, and several beside each other: they drain, die, and share a file."""

from __future__ import annotations

import os
import signal
from collections import Counter
from itertools import pairwise

import pytest

from jobify.model.records import JobQuery
from support import is_alive, until
from workers import CRON_TASK, PROCESS_TASK, Make

SECOND = 1_000_000
KINDS = ["hold_on_loop", "hold_in_thread", "hold_in_process"]


# -- stopping ----------------------------------------------------------------------------------------------------------


@pytest.mark.promise("f25")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.unmeasured
def test_a_worker_that_is_told_to_stop_lets_running_jobs_finish(site: Make, number: signal.Signals) -> None:
    here = site(PROCESS_TASK)
    worker = here.worker()
    running = [here.enqueue(kind) for kind in KINDS]
    for kind in KINDS:
        here.until_noted(kind)
    worker.tell(number)
    worker.until("Stop requested")
    later = here.enqueue("quick", 1)
    here.go()
    assert worker.exit_code() == 0
    assert [here.row(id).status for id in running] == ["success"] * 3
    assert (here.row(later).status, here.row(later).attempt) == ("scheduled", 0)
    assert "Traceback" not in worker.log


def test_what_outlasts_the_grace_period_is_given_back_without_a_lost_attempt(site: Make) -> None:
    here = site(PROCESS_TASK)
    worker = here.worker("--grace", "0.1")
    running = [here.enqueue(kind) for kind in KINDS]
    for kind in KINDS:
        here.until_noted(kind)
    assert worker.stop() == 0
    for id in running:
        row = here.row(id)
        assert (row.status, row.attempt, row.crashes) == ("scheduled", 0, 0)
        assert "lost" not in [line.outcome for line in here.history(id)]
    here.go()
    again = here.worker()
    for id in running:
        assert here.until(id, "success").attempt == 1
    assert again.stop() == 0


def test_a_second_signal_ends_the_grace_period(site: Make) -> None:
    here = site()
    worker = here.worker("--grace", "600")
    running = [here.enqueue("hold_on_loop"), here.enqueue("hold_in_thread")]
    here.until_noted("hold_on_loop")
    here.until_noted("hold_in_thread")
    worker.tell()
    worker.until("Stop requested")
    assert worker.insist(signal.SIGINT) == 128 + signal.SIGINT
    for id in running:
        row = here.row(id)
        assert (row.status, row.attempt, row.crashes) == ("scheduled", 0, 0)


BLOCKS_THE_LOOP = """
    import time

    @app.task(name="block")
    async def block():
        note("block")
        while not GO.exists():
            time.sleep(0.01)
"""


def test_a_second_signal_ends_a_worker_whose_event_loop_is_blocked(site: Make) -> None:
    here = site(BLOCKS_THE_LOOP)
    worker = here.worker()
    id = here.enqueue("block")
    here.until_noted("block")
    assert worker.insist() == 128 + signal.SIGTERM
    assert "A task blocks the event loop" in worker.log
    here.go()
    again = here.worker()
    row = here.until(id, "success")
    assert (row.attempt, row.crashes) == (2, 1)
    assert again.stop() == 0


@pytest.mark.promise("f25")
@pytest.mark.unmeasured
def test_signals_of_one_moment_are_one_wish(site: Make) -> None:
    """``timeout`` signals its child, then the process group; nothing is interrupted."""
    here = site(PROCESS_TASK)
    worker = here.worker("--grace", "600")
    running = [here.enqueue(kind) for kind in KINDS]
    for kind in KINDS:
        here.until_noted(kind)
    worker.tell()
    worker.interrupt_group(signal.SIGTERM)
    worker.interrupt_group()
    worker.interrupt_group(signal.SIGHUP)
    worker.until("Stop requested")
    here.go()
    assert worker.exit_code() == 0
    assert [here.row(id).status for id in running] == ["success"] * 3
    assert "Stopping at once" not in worker.log


@pytest.mark.promise("f25")
@pytest.mark.unmeasured
def test_a_hang_up_that_is_ignored_stays_ignored(site: Make) -> None:
    """``nohup jobify worker``."""
    here = site()
    worker = here.worker(ignores=signal.SIGHUP)
    worker.tell(signal.SIGHUP)
    here.until(here.enqueue("quick", 1), "success")
    assert "Stop requested" not in worker.log
    assert worker.stop() == 0


GRACE = """
    patient = Jobify(storage=SQLiteStorage("jobs.db", synchronous="normal"), grace=77)
"""


@pytest.mark.promise("f25")
@pytest.mark.parametrize(
    ("app", "options", "seconds"), [("patient", [], 77), ("patient", ["--grace", "5"], 5), ("app", [], 30)]
)
def test_the_grace_period_is_the_apps_where_none_is_given(
    site: Make, app: str, options: list[str], seconds: int
) -> None:
    worker = site(GRACE).worker(*options, app=f"plant:{app}")
    assert worker.stop() == 0
    assert f"running jobs have {seconds} seconds to finish" in worker.log


def test_an_impatient_operator_is_no_failure(site: Make) -> None:
    here = site(PROCESS_TASK)
    worker = here.worker("--grace", "600")
    running = [here.enqueue(kind) for kind in KINDS]
    for kind in KINDS:
        here.until_noted(kind)
    assert worker.insist() == 128 + signal.SIGTERM
    for id in running:
        row = here.row(id)
        assert (row.status, row.attempt, row.crashes) == ("scheduled", 0, 0)
    assert here.storage.owners() == []
    assert "Stopping at once" in worker.log
    assert "Cancelled" not in worker.log
    assert "failed" not in worker.log


def test_an_idle_worker_stops_and_leaves_the_list(site: Make) -> None:
    here = site()
    worker = here.worker("--queues", "a,b", "--concurrency", "3")
    (owner,) = here.storage.owners()
    assert (owner.pid, owner.profile.queues, owner.profile.concurrency) == (worker.pid, ("a", "b"), 3)
    assert worker.stop() == 0
    assert here.storage.owners() == []


# -- what is served ----------------------------------------------------------------------------------------------------


@pytest.mark.promise("t10")
@pytest.mark.unmeasured
def test_a_worker_without_queues_serves_all(site: Make) -> None:
    here = site()
    worker = here.worker()
    for number, queue in enumerate(("default", "late", "some other")):
        here.until(here.enqueue("quick", number, queue=queue), "success")
    assert worker.stop() == 0


@pytest.mark.unmeasured
def test_a_worker_with_queues_serves_only_those(site: Make) -> None:
    here = site()
    other = here.enqueue("quick", 1, queue="other")
    worker = here.worker("--queues", "mine")
    here.until(here.enqueue("quick", 2, queue="mine"), "success")
    assert worker.stop() == 0
    assert here.row(other).attempt == 0


@pytest.mark.unmeasured
def test_no_more_jobs_run_at_once_than_it_was_told(site: Make) -> None:
    here = site()
    worker = here.worker("--concurrency", "2")
    for _ in range(5):
        here.enqueue("hold_on_loop")
        here.enqueue("hold_in_thread")
    here.until_noted("hold_on_loop", 2)
    here.until_noted("hold_in_thread", 2)
    here.until(here.enqueue("quick", 1, priority=-1, delay=0.5), "scheduled")
    assert Counter(text for text, _ in here.notes()) == {"hold_on_loop": 2, "hold_in_thread": 2}
    here.go()
    here.until_noted("hold_in_thread", 5)
    assert worker.stop() == 0


# -- dying -------------------------------------------------------------------------------------------------------------


@pytest.mark.promise("t1")
@pytest.mark.unmeasured
def test_the_job_of_a_killed_worker_is_run_again_by_another(site: Make) -> None:
    here = site()
    workers = {worker.pid: worker for worker in (here.worker(), here.worker())}
    job = here.enqueue("hold_on_loop")
    first = here.until_noted("hold_on_loop")
    workers[first].kill()
    second = here.until_noted("hold_on_loop", 2)
    here.go()
    assert here.until(job, "success").attempt == 2
    assert second == next(pid for pid in workers if pid != first)
    assert [line.outcome for line in here.history(job)] == ["lost"]


@pytest.mark.promise("t2")
@pytest.mark.unmeasured
def test_the_death_of_a_child_costs_one_attempt(site: Make) -> None:
    here = site(PROCESS_TASK)
    worker = here.worker()
    job, other = here.enqueue("hold_in_process"), here.enqueue("hold_on_loop")
    os.kill(here.until_noted("hold_in_process"), signal.SIGKILL)
    here.until_noted("hold_in_process", 2)
    here.go()
    assert (here.until(job, "success").attempt, here.until(other, "success").attempt) == (2, 1)
    (line,) = here.history(job)
    assert line.error is not None
    assert "SIGKILL" in line.error
    assert worker.stop() == 0


@pytest.mark.unmeasured
def test_the_children_of_a_killed_worker_die_with_it(site: Make) -> None:
    here = site(PROCESS_TASK)
    worker = here.worker()
    here.enqueue("hold_in_process")
    child = here.until_noted("hold_in_process")
    worker.kill()
    until(lambda: not is_alive(child))


# -- several -----------------------------------------------------------------------------------------------------------


@pytest.mark.promise("t6")
def test_a_cron_runs_once_per_due_time_in_three_workers(site: Make) -> None:
    here = site(CRON_TASK)
    workers = [here.worker() for _ in range(3)]
    here.until_noted("tick", 4)
    assert [worker.stop() for worker in workers] == [0, 0, 0]
    (schedule,) = here.storage.find(JobQuery(is_schedule=True))
    lines = [line for line in here.history(schedule.id) if line.outcome == "succeeded"]
    times = [line.due_at for line in lines]
    assert [later - earlier for earlier, later in pairwise(times)] == [SECOND] * (len(times) - 1)
    assert len(here.notes()) == len(times)


@pytest.mark.promise("t13")
@pytest.mark.unmeasured
def test_eight_workers_share_a_file_without_a_locked_database(site: Make) -> None:
    here = site()
    jobs = [here.enqueue("quick", number) for number in range(100)]
    workers = [here.worker(is_awaited=False) for _ in range(8)]
    jobs += [here.enqueue("quick", number) for number in range(100, 200)]
    for worker in workers:
        worker.until("At work")
    for job in jobs:
        assert here.until(job, "success").attempt == 1
    assert [worker.stop() for worker in workers] == [0] * 8
    assert Counter(text for text, _ in here.notes()) == {f"quick-{number}": 1 for number in range(200)}
    assert all("locked" not in worker.log and "WARNING" not in worker.log for worker in workers)


# -- not starting ------------------------------------------------------------------------------------------------------

BROKEN_IN_CHILDREN = """
    from multiprocessing import current_process
    if current_process().name != "MainProcess":
        raise RuntimeError("this module is not for children")
"""


@pytest.mark.promise("t11")
def test_a_worker_whose_children_cannot_start_claims_nothing(site: Make) -> None:
    here = site(PROCESS_TASK, BROKEN_IN_CHILDREN)
    jobs = [here.enqueue("hold_in_process"), here.enqueue("quick", 1)]
    worker = here.worker(is_awaited=False)
    assert worker.exit_code() == 1
    assert "A child process cannot run the tasks with RunMode.PROCESS, so nothing was claimed: " in worker.log
    assert "not for children" in worker.log
    assert "Traceback" not in worker.log
    for id in jobs:
        assert (here.row(id).status, here.row(id).attempt) == ("scheduled", 0)
    assert here.storage.owners() == []


FAILING_PLUGIN = """
    class Failing:
        async def startup(self, app):
            1 / 0
        async def shutdown(self):
            pass
    app.add_plugin(Failing())
"""


def test_an_error_of_a_plugin_is_one_line(site: Make) -> None:
    here = site(FAILING_PLUGIN)
    worker = here.worker(is_awaited=False)
    assert worker.exit_code() == 1
    assert "ZeroDivisionError" in worker.log
    assert "Traceback" not in worker.log


def test_an_app_in_memory_has_no_work_for_a_worker(site: Make) -> None:
    here = site("app = Jobify(storage=False)\n")
    worker = here.worker(is_awaited=False)
    assert worker.exit_code() == 2
    assert "memory" in worker.log
