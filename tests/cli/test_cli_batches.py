"""`jobs retry`, `cancel` and `delete` for all jobs that match filters."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import jobify.cli.jobs.selection
from cli_shop import SECOND, Shop
from jobify import Jobify
from jobify.client.producer import client_of
from jobify.storage import SQLiteStorage


def words(shop: Shop) -> dict[str, str]:
    """Id → word."""
    return {row["id"]: row["status"] for row in shop("jobs", "list", "--limit", "10000").table}


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three jobs in a transaction."""
    monkeypatch.setattr(jobify.cli.jobs.selection, "_BATCH", 3)


# -- which -------------------------------------------------------------------------------------------------------------


def test_retry_takes_what_failed_and_matches(shop: Shop) -> None:
    owner = shop.worker("pack", "wrap")
    mine = shop.ended(owner, "failed", task="wrap", queue="late")
    dead = shop.ended(owner, "timeout", is_dead=True, task="wrap")
    others = [shop.ended(owner, "success", task="wrap"), shop.ended(owner, "failed"), shop.add(task="wrap")]
    before = words(shop)
    assert shop("jobs", "retry", "--task", "wrap", "--queue", "late", "--yes").out == "1\tretried\n"
    assert words(shop) == {**before, mine: "pending"}
    assert shop("jobs", "retry", "--task", "wrap", "--yes", "--json").json == {"matched": 1, "retried": 1}
    assert words(shop) == {**before, mine: "pending", dead: "pending"}
    assert {words(shop)[other] for other in others} == {"complete", "failed", "pending"}


def test_retry_by_a_text_of_the_error_and_by_time(shop: Shop) -> None:
    owner = shop.worker()
    old = shop.ended(owner, "failed", created_at=shop.now - 7200 * SECOND)
    new = shop.ended(owner, "failed")
    assert shop("jobs", "retry", "--error", "no BOX", "--since", "1h", "--yes").out == "1\tretried\n"
    assert words(shop) == {old: "failed", new: "pending"}
    assert shop("jobs", "retry", "--error", "no crate", "--yes").out == "0\tretried\n"
    assert shop("jobs", "retry", "--error", "%", "--yes").out == "0\tretried\n"
    assert words(shop)[old] == "failed"


def test_a_dead_schedule_is_retried_too(shop: Shop) -> None:
    rule = '{"expression": "*/5 * * * *", "zone": "UTC"}'
    dead = shop.ended(shop.worker(), "failed", is_dead=True, id="nightly", rule=rule, offset_at=shop.now)
    assert shop("jobs", "retry", "--status", "dead", "--yes").out == "1\tretried\n"
    assert words(shop) == {dead: "pending"}


def test_cancel_and_delete_leave_schedules_alone(shop: Shop) -> None:
    schedule, job = shop.schedule("nightly"), shop.add()
    assert shop("jobs", "cancel", "--task", "pack", "--yes").out == "1\tcancelled\n"
    assert shop("jobs", "delete", "--task", "pack", "--status", "cancelled", "--status", "pending", "--yes").out == (
        "1\tdeleted\n"
    )
    assert words(shop) == {schedule: "pending"}
    assert job not in words(shop)


def test_delete_takes_what_has_ended_unless_another_status_is_asked_for(shop: Shop) -> None:
    owner = shop.worker()
    pending, running = shop.add(), shop.running(owner, queue="q")
    ended = shop.ended(owner, "failed")
    assert shop("jobs", "delete", "--task", "pack", "--yes").out == "1\tdeleted\n"
    assert words(shop) == {pending: "pending", running: "running"}
    assert ended not in words(shop)
    assert shop("jobs", "delete", "--status", "pending", "--yes").out == "1\tdeleted\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["retry", "--status", "complete", "--yes"], "choose from failed, dead"),
        (["cancel", "--status", "dead", "--yes"], "choose from pending, running"),
        (["delete", "--status", "running", "--yes"], "choose from pending, complete"),
        (["retry", "--yes"], "Give ids, or filters"),
        (["retry", "some-id", "--status", "dead"], "Give ids or filters, not both"),
        (["delete", "--since", "yesterday", "--yes"], "is not a time"),
        (["cancel", "--status", "weird", "--yes"], "weird"),
    ],
)
def test_a_choice_that_means_nothing_is_wrong_usage(shop: Shop, arguments: list[str], complaint: str) -> None:
    job = shop.add()
    answer = shop("jobs", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert complaint in answer.err
    assert words(shop) == {job: "pending"}


# -- asking ------------------------------------------------------------------------------------------------------------


def test_where_nobody_can_be_asked_the_preview_says_what_would_be_done(shop: Shop) -> None:
    owner = shop.worker()
    ids = [shop.ended(owner, "failed") for _ in range(7)]
    answer = shop("jobs", "retry", "--status", "failed")
    assert (answer.code, answer.out) == (2, "")
    assert [line for line in answer.err.splitlines() if "ValueError: no box" in line] == [
        f"{id}  failed  pack  ValueError: no box" for id in ids[:5]
    ]
    assert "… and 2 more" in answer.err
    assert "--yes" in answer.err
    assert set(words(shop).values()) == {"failed"}


def test_a_preview_on_demand_changes_nothing(shop: Shop) -> None:
    job = shop.ended(shop.worker(), "failed")
    shown = shop("jobs", "delete", "--error", "no box", "--dry-run")
    assert shown.out == f"{job}  failed  pack  ValueError: no box\n1\twould be deleted\n"
    document = shop("jobs", "delete", "--status", "failed", "--dry-run", "--json").json
    assert document == {
        "would_be_deleted": 1,
        "first": [{"id": job, "status": "failed", "task_name": "pack", "error": "ValueError: no box"}],
    }
    assert words(shop) == {job: "failed"}


@pytest.mark.parametrize("is_agreed", [True, False])
def test_who_sits_at_a_terminal_is_asked(shop: Shop, monkeypatch: pytest.MonkeyPatch, is_agreed: bool) -> None:
    job = shop.ended(shop.worker(), "failed")
    asked: list[str] = []

    def ask(question: str) -> bool:
        asked.append(question)
        return is_agreed

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("typer.confirm", ask)
    answer = shop("jobs", "retry", "--status", "failed")
    assert asked == ["Retry 1 job?"]
    assert job in answer.err
    assert answer.code == (0 if is_agreed else 1)
    assert words(shop) == {job: "pending" if is_agreed else "failed"}


def test_nothing_that_matches_is_nothing_to_ask_about(shop: Shop) -> None:
    assert shop("jobs", "cancel", "--queue", "empty")[:2] == (0, "0\tcancelled\n")


# -- many, beside workers ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("filters", [["--status", "failed"], ["--error", "box"]])
def test_more_than_a_batch_is_changed_in_batches(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, filters: list[str]
) -> None:
    owner = shop.worker()
    for _ in range(10):
        shop.ended(owner, "failed")
        shop.ended(owner, "success")
    sizes = []
    original = SQLiteStorage.retry

    def retry(self: SQLiteStorage, ids: Any, **options: Any) -> Any:
        sizes.append(len(ids))
        return original(self, ids, **options)

    monkeypatch.setattr(SQLiteStorage, "retry", retry)
    assert shop("jobs", "retry", *filters, "--yes").out == "10\tretried\n"
    assert max(sizes) <= 3
    assert sorted(words(shop).values()) == ["complete"] * 10 + ["pending"] * 10


@pytest.mark.usefixtures("small_batches")
def test_jobs_that_change_between_the_look_and_the_order_are_left_alone(shop: Shop) -> None:
    """Delete what failed: one is retried by another operator meanwhile; cancel what waits: one begins meanwhile."""
    owner = shop.worker()
    failed = [shop.ended(owner, "failed") for _ in range(3)]
    running, waiting = shop.running(owner), shop.add()
    app = Jobify(storage=SQLiteStorage(shop.database))
    orders = client_of(app).admin
    shop.storage.retry([failed[1]], now=shop.now)
    assert orders.delete(failed, lambda job: job.status == "failed") == 2
    assert words(shop) == {failed[1]: "pending", running: "running", waiting: "pending"}
    assert [*orders.cancel([running, waiting], lambda job: job.status == "scheduled")] == [waiting]
    assert orders.cancel([], lambda job: True) == {}
    assert orders.delete([running], lambda job: False) == 0
    assert orders.retry([running], lambda job: False) == []
    assert not shop.storage.get([running])[0].is_cancel_requested
    app.close()


def test_a_retried_job_that_fails_again_at_once_is_retried_once(shop: Shop, tmp_path: Path) -> None:
    """A worker runs while the command does; every job is met once, so the command ends."""
    shop.folder.joinpath("failing.py").write_text(
        "from jobify import Jobify\napp = Jobify(storage='failing.db')\n\n"
        "@app.task(name='fail')\nasync def fail():\n    raise ConnectionError('payment is down')\n"
    )
    app = Jobify(storage=str(shop.folder / "failing.db"))
    app.enqueue_many("fail", [()] * 200)
    worker = subprocess.Popen([sys.executable, "-m", "jobify", "worker", "failing:app"], cwd=shop.folder)
    try:
        for job in app.jobs(limit=200):
            job.wait(60)
        command = [sys.executable, "-m", "jobify", "jobs", "retry", "--error", "payment", "--database", "failing.db"]
        done = subprocess.run([*command, "--yes"], cwd=shop.folder, capture_output=True, text=True, timeout=60)
        assert done.stdout == "200\tretried\n", done.stderr
        for job in app.jobs(limit=200):
            job.wait(60)
        assert {len(job.errors) for job in app.jobs(limit=200)} == {2}
    finally:
        worker.terminate()
        worker.wait(60)
        app.close()


def test_running_jobs_are_told_and_waited_for(shop: Shop) -> None:
    running = shop.running(shop.worker())
    answer = shop("jobs", "cancel", "--status", "running", "--yes", "--wait", "0")
    assert (answer.code, answer.out) == (1, "0\tcancelled\n")
    assert "1 job still running, although cancellation is requested" in answer.err
    assert shop.storage.get([running])[0].is_cancel_requested


def test_a_unique_key_that_is_in_use_is_said(shop: Shop) -> None:
    owner = shop.worker()
    shop.ended(owner, "failed", unique_key="k")
    shop.add(unique_key="k")
    other = shop.ended(owner, "failed", queue="q")
    answer = shop("jobs", "retry", "--status", "failed", "--yes")
    assert (answer.code, answer.out) == (1, "1\tretried\n")
    assert "1 job not retried, because other jobs have the same unique keys" in answer.err
    assert words(shop)[other] == "pending"


# -- dependents --------------------------------------------------------------------------------------------------------


def test_dependents_are_deleted_with_their_job(shop: Shop) -> None:
    done = shop.ended(shop.worker(), "success")
    child = shop.add(parents=(done,), ready=False, due_at=shop.now + 3600 * SECOND)
    grandchild, other = shop.add(parents=(child,)), shop.add()
    assert shop("jobs", "delete", "--status", "complete", "--with-dependents", "--yes").out == "3\tdeleted\n"
    assert words(shop) == {other: "pending"}
    assert {child, grandchild}.isdisjoint(words(shop))


def test_the_rest_of_a_workflow_is_cancelled_although_its_first_job_has_ended(shop: Shop) -> None:
    done = shop.ended(shop.worker(), "success")
    child = shop.add(parents=(done,), ready=False, due_at=shop.now + 3600 * SECOND)
    grandchild, other = shop.add(parents=(child,)), shop.add()
    answer = shop("jobs", "cancel", done, "--with-dependents")
    assert (answer.code, answer.out) == (0, f"{child}\tcancelled\n{grandchild}\tcancelled\n")
    assert words(shop) == {done: "complete", child: "cancelled", grandchild: "cancelled", other: "pending"}


def test_a_deletion_by_id_takes_dependents_on_demand(shop: Shop) -> None:
    done = shop.ended(shop.worker(), "success")
    child = shop.add(parents=(done,))
    assert shop("jobs", "delete", done, "--with-dependents", "--yes").out == f"{done}\tdeleted\n"
    assert child not in words(shop)


def test_an_interrupt_says_how_much_was_done(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.ended(shop.worker(), "failed")

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SQLiteStorage, "retry", interrupted)
    answer = shop("jobs", "retry", "--status", "failed", "--yes")
    assert (answer.code, answer.out) == (1, "0\tretried\n")
    assert "Interrupted; 0 jobs retried so far." in answer.err


@pytest.mark.promise("f12")
def test_delete_says_what_other_jobs_need(shop: Shop) -> None:
    owner = shop.worker()
    needed, other = shop.ended(owner, "success"), shop.ended(owner, "success")
    child = shop.add(parents=(needed,))
    answer = shop("jobs", "delete", "--status", "complete", "--yes")
    assert (answer.code, answer.out) == (0, "1\tdeleted\n")
    assert "1 job kept: other jobs need their results" in answer.err
    assert words(shop) == {needed: "complete", child: "pending"}
    assert other not in words(shop)
