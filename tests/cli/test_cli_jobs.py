"""`jobify jobs …` and what it says about jobs that wait, run and have ended."""

from __future__ import annotations

import json

import pytest

from cli_shop import SECOND, TRACEBACK, Shop
from jobify import Jobify
from jobify.model.records import MessageKind, Report

WORDS = ["pending", "running", "complete", "failed", "dead", "cancelled"]


@pytest.fixture
def one_of_each(shop: Shop) -> dict[str, str]:
    """Word → id of a job that reads so."""
    owner = shop.worker()
    ids = {
        "complete": shop.ended(owner, "success"),
        "failed": shop.ended(owner, "failed"),
        "dead": shop.ended(owner, "timeout", is_dead=True),
        "running": shop.running(owner),
        "pending": shop.add(),
        "cancelled": shop.add(),
    }
    shop.storage.cancel([ids["cancelled"]], reason="cancelled", now=shop.now, delete_at=None)
    return ids


def test_a_list_has_every_job_and_its_word(shop: Shop, one_of_each: dict[str, str]) -> None:
    assert {row["status"]: row["id"] for row in shop("jobs", "list").table} == one_of_each


@pytest.mark.parametrize("word", WORDS)
def test_a_list_by_status_has_only_that(shop: Shop, one_of_each: dict[str, str], word: str) -> None:
    assert [row["id"] for row in shop("jobs", "list", "--status", word).table] == [one_of_each[word]]


def test_failed_and_dead_can_be_asked_for_together(shop: Shop, one_of_each: dict[str, str]) -> None:
    rows = shop("jobs", "list", "--status", "failed", "--status", "dead").table
    assert {row["status"] for row in rows} == {"failed", "dead"}


def test_a_word_that_is_no_status_is_refused_with_a_hint(shop: Shop) -> None:
    answer = shop("jobs", "list", "--status", "completed")
    assert (answer.code, answer.out) == (2, "")
    assert "complete" in answer.err


def test_lists_go_on_where_the_page_before_ended(shop: Shop) -> None:
    ids = [shop.add() for _ in range(5)]
    first = shop("jobs", "list", "--limit", "3", "--json").json
    second = shop("jobs", "list", "--limit", "3", "--json", "--after", first["next"]).json
    assert [job["id"] for job in first["jobs"] + second["jobs"]] == ids[::-1]
    assert second["next"] is None


def test_a_page_that_is_full_says_how_to_go_on(shop: Shop) -> None:
    ids = [shop.add() for _ in range(2)]
    assert f"--after {ids[1]}" in shop("jobs", "list", "--limit", "1").err


def test_a_list_can_begin_with_the_oldest(shop: Shop) -> None:
    ids = [shop.add() for _ in range(3)]
    assert [row["id"] for row in shop("jobs", "list", "--oldest-first").table] == ids


def test_filters_of_task_queue_time_and_metadata(shop: Shop) -> None:
    old = shop.add(created_at=shop.now - 7200 * SECOND)
    mine = shop.add(task="wrap", queue="late", options='{"metadata":{"user":"ada","tries":3}}')
    for filters in (
        ["--task", "wrap"],
        ["--queue", "late"],
        ["--since", "1h"],
        ["--metadata", "user=ada", "--metadata", "tries=3"],
    ):
        assert [row["id"] for row in shop("jobs", "list", *filters).table] == [mine], filters
    assert [row["id"] for row in shop("jobs", "list", "--until", "1h").table] == [old]
    assert shop("jobs", "list", "--metadata", 'tries="3"').table == []


@pytest.mark.parametrize(
    "wrong",
    [["--since", "yesterday"], ["--metadata", "user"], ["--limit", "0"], ["--status", "dead", "--status", "complete"]],
)
def test_filters_that_cannot_be_read_are_wrong_usage(shop: Shop, wrong: list[str]) -> None:
    answer = shop("jobs", "list", *wrong)
    assert answer.code == 2
    assert "Traceback" not in answer.err


# -- why it waits ------------------------------------------------------------------------------------------------------


def note(shop: Shop, id: str) -> str:
    return str(shop("jobs", "show", id, "--json").json["note"])


@pytest.mark.promise("t10")
def test_a_job_that_nobody_takes_says_why(shop: Shop) -> None:
    job = shop.add(queue="late")
    assert note(shop, job) == "no worker runs"
    shop.worker("wrap", queues=("early",))
    assert note(shop, job) == "no worker serves this queue"
    shop.worker("wrap")
    assert note(shop, job) == "no worker knows this task"
    shop.worker("pack", queues=("early",))
    assert note(shop, job) == "no worker of this queue knows this task"
    shop.worker("pack", queues=("late",))
    assert note(shop, job) == ""


def test_a_job_says_what_it_waits_for(shop: Shop) -> None:
    owner = shop.worker()
    parent = shop.add()
    child = shop.add(parents=(parent,))
    assert note(shop, child) == "waits for 1 other"
    later = shop.add(ready=False, due_at=shop.now + 7200 * SECOND)
    assert note(shop, later).startswith("due in 1 h")
    shop("queues", "pause", "default")
    assert note(shop, parent) == "the queue is paused"
    running = shop.running(owner, queue="other")
    shop.storage.cancel([running], reason="cancelled", now=shop.now, delete_at=None)
    assert note(shop, running) == "cancellation requested"


# -- one job -----------------------------------------------------------------------------------------------------------


def test_a_job_is_shown_with_all_that_belongs_to_it(shop: Shop) -> None:
    owner = shop.worker()
    failed = shop.ended(owner, "failed", options='{"metadata":{"user":"ada"}}')
    shown = shop("jobs", "show", failed, "--json").json
    assert (shown["status"], shown["error"], shown["metadata"]) == ("failed", "ValueError: no box", {"user": "ada"})
    assert (shown["arguments"], shown["result"]) == ('[["tea"],{}]', None)
    assert [attempt["traceback"] for attempt in shown["attempts"]] == [TRACEBACK]
    text = shop("jobs", "show", failed).out
    assert TRACEBACK in text
    assert "metadata\tuser=ada" in text


def test_a_job_has_the_same_words_for_scripts_as_for_programs(shop: Shop) -> None:
    job = shop.ended(shop.worker(), "failed")
    words = Jobify(storage=shop.storage).get_job(job).to_dict()
    shown = shop("jobs", "show", job, "--json").json
    assert {word: shown[word] for word in words} == words
    (listed,) = shop("jobs", "--json").json["jobs"]
    assert listed == {word: shown[word] for word in listed}
    assert {*words} - {*listed} == {"errors", "result", "dependencies", "dependents"}


def test_the_reason_of_a_cancelled_job_is_no_error(shop: Shop) -> None:
    job = shop.add()
    shop("jobs", "cancel", job)
    shown = shop("jobs", "show", job, "--json").json
    assert (shown["error"], shown["reason"]) == (None, "cancelled")
    assert "reason\tcancelled\n" in shop("jobs", "show", job).out


def test_a_running_job_is_shown_with_progress_messages_and_worker(shop: Shop) -> None:
    owner = shop.worker()
    job = shop.running(owner)
    (row,) = shop.storage.get([job])
    reports = [
        Report(job, owner, row.fence, MessageKind.PROGRESS, shop.now, 40.0),
        Report(job, owner, row.fence, MessageKind.VALUE, shop.now, b'"tea"'),
        Report(job, owner, row.fence, MessageKind.LOG, shop.now, "half done", "warning"),
        Report(job, owner, row.fence, MessageKind.VALUE, shop.now, b"\xff\x00"),
    ]
    assert shop.storage.report(reports) == [True] * 4
    shown = shop("jobs", "show", job, "--json").json
    assert shown["progress"] == 40.0
    assert [message["data"] for message in shown["messages"]] == ['"tea"', "half done", "(2 bytes)"]
    assert "process" in shown["worker"]
    assert "warning half done" in " ".join(shop("jobs", "show", job).out.split())


@pytest.mark.promise("f13")
def test_the_workflow_is_drawn(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = shop.worker()
    first = shop.running(owner)
    parts = [shop.add(parents=(first,), task="part") for _ in range(9)]
    last = shop.add(parents=tuple(parts), task="merge")
    shop.settle(owner, first, "failed")
    lines = shop("jobs", "show", last).out.splitlines()
    begin = lines.index("# Workflow (11 jobs: 1 failed, 10 cancelled)")
    assert lines[begin + 1 : begin + 4] == [
        f"  pack                failed     {first}  ValueError: no box",
        "  ├─ part × 9  9 cancelled",
        f"▶ └─ merge (after 9)  cancelled  {last}",
    ]
    workflow = shop("jobs", "show", last, "--json").json["workflow"]
    assert (workflow["counts"], len(workflow["jobs"])) == ({"failed": 1, "cancelled": 10}, 11)
    assert shop("jobs", "show", shop.add(), "--json").json["workflow"] is None


def test_dependencies_are_shown_in_both_directions(shop: Shop) -> None:
    parent = shop.add()
    child = shop.add(parents=(parent,))
    assert shop("jobs", "show", parent, "--json").json["dependents"] == [child]
    assert shop("jobs", "show", child, "--json").json["dependencies"] == [parent]


@pytest.mark.parametrize("command", ["show", "cancel", "retry", "delete"])
def test_a_job_that_is_not_there_is_exit_code_3(shop: Shop, command: str) -> None:
    extra = ["--yes"] if command == "delete" else []
    answer = shop("jobs", command, "nope", *extra)
    assert (answer.code, answer.out) == (3, "")
    assert answer.err.count("\n") == 1
    assert "there is no" in answer.err.lower()


# -- changing ----------------------------------------------------------------------------------------------------------


def test_cancel_ends_what_waits(shop: Shop) -> None:
    job = shop.add()
    assert shop("jobs", "cancel", job).out == f"{job}\tcancelled\n"
    assert shop.status(job) == "cancelled"


def test_cancel_says_that_a_job_still_runs(shop: Shop) -> None:
    job = shop.running(shop.worker())
    answer = shop("jobs", "cancel", job, "--wait", "0")
    assert (answer.code, answer.out) == (1, "")
    assert "still runs" in answer.err


def test_cancel_says_that_a_job_had_ended(shop: Shop) -> None:
    job = shop.ended(shop.worker(), "success")
    answer = shop("jobs", "cancel", job)
    assert answer.code == 1
    assert "had already ended" in answer.err


def test_retry_puts_back_what_failed_and_nothing_else(shop: Shop) -> None:
    owner = shop.worker()
    dead, complete = shop.ended(owner, "failed", is_dead=True), shop.ended(owner, "success")
    answer = shop("jobs", "retry", dead, complete)
    assert (answer.code, answer.out) == (1, f"{dead}\tpending\n")
    assert complete in answer.err
    assert shop.status(dead) == "scheduled"


@pytest.mark.promise("f13")
@pytest.mark.parametrize("by", ["id", "filter"])
def test_retry_brings_back_what_was_cancelled_because_of_it(shop: Shop, by: str) -> None:
    owner = shop.worker()
    job = shop.running(owner)
    child = shop.add(parents=(job,))
    shop.settle(owner, job, "failed")
    answer = shop("jobs", "retry", child)
    assert answer.code == 1
    assert f"it was cancelled because of another job (dependency {job} failed: pack failed" in answer.err
    which = (job,) if by == "id" else ("--task", "pack", "--yes")
    assert shop("jobs", "retry", "--without-dependents", *which).code == 0
    assert (shop.status(job), shop.status(child)) == ("scheduled", "cancelled")
    shop.settle(owner, shop.claim(owner), "failed")
    assert shop("jobs", "retry", "--with-dependents", *which).code == 0
    assert (shop.status(job), shop.status(child)) == ("scheduled", "scheduled")


@pytest.mark.promise("f12")
def test_delete_and_purge_say_what_is_needed(shop: Shop) -> None:
    owner = shop.worker()
    job = shop.ended(owner, "success")
    child = shop.add(parents=(job,))
    answer = shop("jobs", "delete", "--yes", job)
    assert (answer.code, answer.out) == (1, "")
    assert "another job needs its result" in answer.err
    answer = shop("jobs", "purge", "--status", "complete", "--yes")
    assert (answer.code, answer.out) == (0, "0\tdeleted\n")
    assert "1 are kept: other jobs need their results" in answer.err
    assert shop("jobs", "delete", "--yes", "--with-dependents", job).code == 0
    assert [row["id"] for row in shop("jobs", "list").table] == []
    assert child not in shop("jobs", "list").out


def test_delete_takes_all_but_running_jobs(shop: Shop) -> None:
    running, waiting = shop.running(shop.worker()), shop.add()
    answer = shop("jobs", "delete", "--yes", waiting, running)
    assert (answer.code, answer.out) == (1, f"{waiting}\tdeleted\n")
    assert "cancel it first" in answer.err
    assert [row["id"] for row in shop("jobs", "list").table] == [running]


def test_a_script_reads_what_became_of_each_job(shop: Shop) -> None:
    job, other = shop.add(), shop.add()
    answer = shop("jobs", "cancel", job, "nowhere", other, "--json")
    assert json.loads(answer.out) == {"jobs": [{"id": id, "status": "cancelled"} for id in (job, other)]}
    assert (answer.code, answer.err) == (3, "jobify: nowhere: there is no such job\n")


def test_a_script_reads_how_much_was_purged(shop: Shop) -> None:
    shop.ended(shop.worker(), "failed")
    assert shop("jobs", "purge", "--status", "failed", "--dry-run", "--json").json == {"would_be_deleted": 1}
    assert shop("jobs", "purge", "--status", "failed", "--yes", "--json").json == {"deleted": 1}


def test_nobody_is_asked_where_nobody_sits(shop: Shop) -> None:
    job = shop.add()
    answer = shop("jobs", "delete", job)
    assert answer.code == 2
    assert "--yes" in answer.err
    assert shop.status(job) == "scheduled"


def test_purge_takes_what_has_ended_and_matches(shop: Shop, one_of_each: dict[str, str]) -> None:
    assert shop("jobs", "purge", "--status", "dead", "--dry-run").out == "1\twould be deleted\n"
    assert shop("jobs", "purge", "--status", "dead", "--yes").out == "1\tdeleted\n"
    assert shop("jobs", "purge", "--task", "pack", "--yes").out == "3\tdeleted\n"
    assert {row["status"] for row in shop("jobs", "list").table} == {"pending", "running"}


def test_purge_without_filters_takes_what_retention_no_longer_keeps(shop: Shop) -> None:
    over, kept = shop.add(), shop.add()
    shop.storage.cancel([over], reason="cancelled", now=shop.now, delete_at=shop.now)
    shop.storage.cancel([kept], reason="cancelled", now=shop.now, delete_at=shop.now + 9999 * SECOND)
    assert shop("jobs", "purge", "--yes").out == "1\tdeleted\n"
    assert [row["id"] for row in shop("jobs", "list").table] == [kept]


def test_purge_refuses_what_has_not_ended(shop: Shop) -> None:
    assert shop("jobs", "purge", "--status", "pending", "--yes").code == 2
