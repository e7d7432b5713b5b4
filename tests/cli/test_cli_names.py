"""Names that are misspelt, and names that are cut short: queues, jobs and schedules as people type them."""

from __future__ import annotations

import pytest

from cli_shop import Shop
from support import output

FIRST, SECOND_ID = "0199aaaa-0000-7000-8000-000000000001", "0199aaaa-0000-7000-8000-000000000002"
OTHER = "0199bbbb-0000-7000-8000-000000000001"

# -- queues ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_a_queue_that_nobody_serves_and_no_job_has_is_exit_code_3_with_near_names(shop: Shop, verb: str) -> None:
    shop.add(queue="mail")
    shop.worker(queues=("images",))
    answer = shop("queues", verb, "mial", "images")
    assert (answer.code, answer.out) == (3, f"images\t{verb}d\n")
    assert "mial: no job is in such a queue" in answer.err
    assert "Did you mean 'mail'?" in answer.err
    assert ("--create" in answer.err) == (verb == "pause")
    assert shop.storage.paused_queues() == (["images"] if verb == "pause" else [])


def test_a_queue_that_is_not_there_yet_is_paused_on_demand(shop: Shop) -> None:
    assert shop("queues", "pause", "later", "--create").out == "later\tpaused\n"
    assert shop("queues", "pause", "later").out == "later\tpaused\n"
    assert shop("queues", "resume", "later").out == "later\tresumed\n"
    assert shop("queues", "resume", "later").code == 3


def test_a_worker_of_every_queue_names_none(shop: Shop) -> None:
    shop.worker(queues=None)
    assert shop("queues", "pause", "mail").code == 3


def test_a_queue_that_a_task_of_the_app_names_is_known(shop: Shop) -> None:
    shop.folder.joinpath("tidy.py").write_text(
        "from jobify import Jobify\napp = Jobify(storage='shop.db')\n\n@app.task(queue='mail')\ndef send(): ...\n"
    )
    assert shop("queues", "pause", "mail", "--app", "tidy:app").code == 0
    assert shop("queues", "pause", "post", "--database", "shop.db").code == 3


# -- jobs --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def jobs(shop: Shop) -> Shop:
    """Three jobs; two of their ids begin alike."""
    for id in (FIRST, SECOND_ID, OTHER):
        shop.add(id=id)
    return shop


def test_a_unique_beginning_is_enough(jobs: Shop) -> None:
    assert jobs("jobs", "show", "0199b", "--json").json["id"] == OTHER
    assert jobs("jobs", "cancel", "0199bbbb", FIRST[:-1] + "1").out == f"{OTHER}\tcancelled\n{FIRST}\tcancelled\n"
    assert jobs("jobs", "delete", "0199b", "--yes").out == f"{OTHER}\tdeleted\n"
    assert [row["id"] for row in jobs("jobs", "list").table] == [SECOND_ID, FIRST]


def test_a_failed_job_is_retried_by_its_beginning(shop: Shop) -> None:
    job = shop.ended(shop.worker(), "failed")
    assert shop("jobs", "retry", job[:-2]).out == f"{job}\tpending\n"


@pytest.mark.parametrize("verb", [["show"], ["cancel"], ["retry"], ["delete", "--yes"]], ids=lambda verb: verb[0])
def test_an_ambiguous_beginning_lists_the_candidates_and_changes_nothing(jobs: Shop, verb: list[str]) -> None:
    answer = jobs("jobs", *verb, "0199a")
    assert (answer.code, answer.out) == (2, "")
    assert (
        f"'0199a' is the beginning of several ids: {FIRST} (pending, pack), {SECOND_ID} (pending, pack)." in answer.err
    )
    assert OTHER not in answer.err
    assert [row["status"] for row in jobs("jobs", "list").table] == ["pending"] * 3


def test_a_whole_id_is_meant_although_others_begin_so(shop: Shop) -> None:
    for id in ("order-1", "order-10", "order-11"):
        shop.add(id=id)
    assert shop("jobs", "cancel", "order-1").out == "order-1\tcancelled\n"
    assert "and others" not in shop("jobs", "cancel", "order").err
    for number in range(20, 30):
        shop.add(id=f"order-{number}")
    many = shop("jobs", "cancel", "order").err
    assert "and others" in many
    assert many.count("order-") == 5


@pytest.mark.parametrize("text", ["", "nope", "0199c", "%", "0199_", "\ud800", "a\0b"])
def test_what_is_no_beginning_is_not_found(jobs: Shop, text: str) -> None:
    answer = jobs("jobs", "cancel", text)
    assert (answer.code, answer.out) == (3, "")


def test_beginnings_work_in_a_process(jobs: Shop) -> None:
    shown = output("-m", "jobify", "jobs", "show", "0199b", "--database", "shop.db", cwd=jobs.folder)
    assert f"id\t{OTHER}" in shown


# -- schedules ---------------------------------------------------------------------------------------------------------


def test_a_schedule_is_named_by_its_task(shop: Shop) -> None:
    id = shop.schedule("report__jobify_cron_definition", task="report")
    shop.add(task="report")
    assert shop("schedules", "pause", "report").out == f"{id}\tpaused\n"
    assert shop("schedules", "resume", "report").out == f"{id}\tresumed\n"
    assert shop("schedules", "run-now", "report").code == 0
    assert shop("schedules", "pause", "repo").out == f"{id}\tpaused\n"


def test_the_task_of_several_schedules_is_ambiguous(shop: Shop) -> None:
    shop.schedule("morning", task="report")
    shop.schedule("evening", task="report")
    for verb in ("pause", "run-now"):
        answer = shop("schedules", verb, "report")
        assert (answer.code, answer.out) == (2, "")
        assert "is the task of several schedules: evening (pending, report), morning (pending, report)." in answer.err
    assert shop("schedules", "pause", "morning").out == "morning\tpaused\n"


def test_the_beginning_of_a_job_is_no_schedule(shop: Shop) -> None:
    shop.add(id="plain-job")
    assert shop("schedules", "pause", "plain").code == 3
