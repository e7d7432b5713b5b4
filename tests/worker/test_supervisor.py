"""`jobify worker --processes N`: workers that are kept alive, and never outlive the one that keeps them."""

from __future__ import annotations

import os
import signal

import pytest

from support import is_alive, output, until
from workers import Command, Make, Site


def supervised(here: Site, count: int, *options: str) -> Command:
    """A supervisor with all of its workers at work."""
    supervisor = here.worker("--processes", str(count), *options)
    supervisor.until("At work", count)
    return supervisor


def test_jobs_are_run_by_all_of_the_workers(site: Make) -> None:
    here = site()
    supervisor = supervised(here, 3, "--concurrency", "1")
    assert {owner.pid for owner in here.storage.owners()} == set(supervisor.children())
    for _ in range(3):
        here.enqueue("hold_in_thread")
    here.until_noted("hold_in_thread", 3)
    assert {pid for _, pid in here.notes()} == set(supervisor.children())
    here.go()
    assert supervisor.stop() == 0


@pytest.mark.both_storages
def test_a_worker_that_died_is_started_again(site: Make) -> None:
    here = site()
    supervisor = supervised(here, 2)
    victim = supervisor.children()[0]
    os.kill(victim, signal.SIGKILL)
    supervisor.until("At work", 3)
    assert victim not in supervisor.children()
    assert len(supervisor.children()) == 2
    assert f"Worker {victim} ended with SIGKILL; another one starts at once" in supervisor.log
    assert supervisor.stop() == 0


def test_one_that_dies_again_and_again_is_waited_with(site: Make) -> None:
    here = site()
    supervisor = supervised(here, 2)
    os.kill(supervisor.children()[0], signal.SIGKILL)
    supervisor.until("At work", 3)
    os.kill(supervisor.children()[-1], signal.SIGKILL)
    supervisor.until("another one starts", 2)
    assert "starts in 0.5 seconds" in supervisor.log
    supervisor.until("At work", 4)
    assert supervisor.stop() == 0


def test_workers_drain_when_the_supervisor_is_told_to_stop(site: Make) -> None:
    here = site()
    supervisor = supervised(here, 2)
    job = here.enqueue("hold_on_loop")
    here.until_noted("hold_on_loop")
    supervisor.tell()
    supervisor.until("Stop requested: no more jobs are started", 2)
    here.go()
    assert supervisor.exit_code() == 0
    assert (here.row(job).status, here.row(job).attempt) == ("success", 1)
    assert here.storage.owners() == []


@pytest.mark.promise("f25")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_to_all_processes_at_once_are_one_wish(site: Make, number: signal.Signals) -> None:
    here = site()
    supervisor = supervised(here, 2, "--grace", "600")
    job = here.enqueue("hold_on_loop")
    here.until_noted("hold_on_loop")
    for pid in (supervisor.pid, *supervisor.children()) * 2:
        os.kill(pid, number)
    supervisor.until("Stop requested: no more jobs are started", 2)
    here.go()
    assert supervisor.exit_code() == 0
    assert (here.row(job).status, here.row(job).attempt) == ("success", 1)


@pytest.mark.promise("f25")
def test_a_supervisor_waits_as_long_as_its_workers_say() -> None:
    code = """
import socket, sys
from jobify.worker.control_socket import READY
from jobify.worker.supervisor import Supervisor

supervisor = Supervisor(["nobody"], 2, grace=None)
print(supervisor._stop_timeout())
supervisor._slots[0].socket, worker = socket.socketpair()
worker.sendall(READY + b"600.0")
supervisor._slots[0].receive(1.0)
print(supervisor._stop_timeout(), Supervisor(["nobody"], 2, grace=5)._stop_timeout())
"""
    assert output("-c", code).split() == ["50.0", "620.0", "25.0"]


def test_one_ctrl_c_is_one_signal_however_many_processes_the_terminal_has(site: Make) -> None:
    here = site()
    supervisor = supervised(here, 2, "--grace", "600")
    job = here.enqueue("hold_on_loop")
    worker = here.until_noted("hold_on_loop")
    os.kill(worker, signal.SIGTERM)  # as a service manager does, which signals every process of a unit
    supervisor.interrupt_group()
    supervisor.until("Stop requested: no more jobs are started", 2)
    here.go()
    assert supervisor.exit_code() == 0
    assert here.row(job).status == "success"


def test_a_second_signal_stops_all_at_once(site: Make) -> None:
    here = site()
    supervisor = supervised(here, 2, "--grace", "600")
    job = here.enqueue("hold_on_loop")
    here.until_noted("hold_on_loop")
    supervisor.tell()
    supervisor.until("Stop requested: no more jobs are started", 2)
    assert supervisor.insist() == 128 + signal.SIGTERM
    assert (here.row(job).status, here.row(job).attempt) == ("scheduled", 0)


def test_workers_do_not_outlive_a_supervisor_that_is_killed(site: Make) -> None:
    here = site()
    supervisor = supervised(here, 2, "--grace", "600")
    workers = supervisor.children()
    job = here.enqueue("hold_on_loop")
    here.until_noted("hold_on_loop")
    supervisor.kill()
    until(lambda: not any(map(is_alive, workers)))
    assert (here.row(job).status, here.row(job).attempt) == ("scheduled", 0)
    assert "The supervisor has died" in supervisor.log


def test_a_worker_whose_loop_is_blocked_does_not_outlive_its_supervisor_either(site: Make) -> None:
    here = site("@app.task(name='block')\nasync def block():\n    note('block')\n    time.sleep(3600)\n")
    supervisor = supervised(here, 2)
    workers = supervisor.children()
    here.enqueue("block")
    here.until_noted("block")
    supervisor.kill()
    until(lambda: not any(map(is_alive, workers)))


def test_an_app_that_cannot_start_is_given_up_with_one_error(site: Make) -> None:
    here = site("raise RuntimeError('not today')\n")
    supervisor = here.worker("--processes", "3", is_awaited=False)
    assert supervisor.exit_code() == 1
    assert supervisor.log.count("not today") == 1
    assert "No worker can start" in supervisor.log
    assert "Traceback" not in supervisor.log


def test_wrong_usage_keeps_its_exit_code(site: Make) -> None:
    supervisor = Command(site().folder, ["worker", "nowhere:app", "--processes", "2"])
    assert supervisor.exit_code() == 2
    assert "There is no module 'nowhere'" in supervisor.log
