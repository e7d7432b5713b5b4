"""What a command says of a job or a schedule that does not take its order: what it is, and what it is like."""

from __future__ import annotations

import os
import signal

import pytest

from cli_shop import RULE, SECOND, Shop
from jobify.model.records import OwnerProfile, OwnerRole
from jobify.storage import SQLiteStorage


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_a_schedule_that_is_not_there_is_told_from_one_that_refuses(shop: Shop, verb: str) -> None:
    shop.schedule("nightly", task="report")
    answer = shop("schedules", verb, "reprt")
    assert answer.code == 3
    assert "reprt: there is no such schedule. Did you mean 'report'?" in answer.err
    assert "Did you mean" not in shop("schedules", verb, "zzzzz").err
    assert "it is a job, not a schedule" in shop("schedules", verb, shop.add()).err


@pytest.mark.promise("f7")
def test_a_stopped_schedule_is_not_paused_and_the_answer_says_so(shop: Shop) -> None:
    shop.ended(shop.worker(), "permanently_failed", is_dead=True, id="nightly", rule=RULE, offset_at=shop.now)
    answer = shop("schedules", "pause", "nightly")
    assert answer.code == 3
    assert "nightly: it is stopped " in answer.err
    assert "ValueError: no box. `jobify schedules resume` revives it" in answer.err


def test_a_schedule_that_has_ended_is_not_resumed_and_the_answer_says_so(shop: Shop) -> None:
    shop.schedule("nightly")
    shop("jobs", "cancel", "nightly")
    assert "nightly: it has ended (cancelled)" in shop("schedules", "resume", "nightly").err


def test_a_job_that_cannot_be_retried_is_told_its_status(shop: Shop) -> None:
    complete, waiting = shop.ended(shop.worker(), "success"), shop.add()
    answer = shop("jobs", "retry", complete, waiting)
    assert f"{complete}: it is complete; only a failed or dead job can be retried" in answer.err
    assert f"{waiting}: it is pending; only" in answer.err


@pytest.mark.parametrize("command", ["list", "retry", "cancel", "delete"])
def test_a_misspelt_filter_is_told_from_one_that_nothing_matches(shop: Shop, command: str) -> None:
    shop.ended(shop.worker(), "success", queue="payments")
    yes = () if command == "list" else ("--yes",)
    answer = shop("jobs", command, "--task", "pakc", "--queue", "paymets", *yes)
    assert answer.code == 0
    assert "No job has the task 'pakc'. Did you mean 'pack'?" in answer.err
    assert "No job has the queue 'paymets'. Did you mean 'payments'?" in answer.err
    assert shop("jobs", command, "--task", "pack", "--queue", "default", *yes).err == ""


def _dead_worker(shop: Shop, *, seen_before: int) -> int:
    child = os.fork()
    if child == 0:
        storage = SQLiteStorage(shop.database, synchronous="normal")
        storage.open()
        storage.register(OwnerProfile(OwnerRole.WORKER, None, ("pack",), 4), now=shop.now - seen_before)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (dead,) = [owner for owner in shop.storage.owners() if not owner.is_alive]
    return dead.id


@pytest.mark.promise("f10")
def test_a_worker_was_alive_when_it_began_the_job(shop: Shop) -> None:
    """Heartbeats are rare; the note does not say that the worker was gone before it took the job."""
    job = shop.running(_dead_worker(shop, seen_before=600 * SECOND))
    (row,) = shop("jobs", "list").table
    assert row["id"] == job
    assert "is gone, last seen " in row["note"]
    assert " m ago" not in row["note"].partition(";")[0]


@pytest.mark.promise("f10")
def test_orders_to_a_job_whose_worker_is_gone_say_so(shop: Shop) -> None:
    job = shop.running(_dead_worker(shop, seen_before=0))
    waited = shop("jobs", "wait", job, "--timeout", "0.1s")
    assert waited.code == 8
    assert f"{job} has not ended within 100 ms: it is running, its worker (" in waited.err
    cancelled = shop("jobs", "cancel", job, "--wait", "0")
    assert cancelled.code == 1
    assert f"{job}: cancellation is requested: its worker (" in cancelled.err
    assert "the next worker that starts cancels it" in cancelled.err
