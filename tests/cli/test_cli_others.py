"""`jobify schedules | queues | workers | stats | db …`."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from cli_shop import RULE, SECOND, Shop
from jobify.model.records import OwnerProfile, OwnerRole
from jobify.storage import SQLiteStorage
from jobify.storage.sqlite.schema import migrations

NEWEST = len(migrations())

# -- schedules ---------------------------------------------------------------------------------------------------------


def test_schedules_are_listed_with_their_rule(shop: Shop) -> None:
    shop.add()
    shop.schedule("nightly")
    (row,) = shop("schedules", "list").table
    assert (row["id"], row["cron"], row["task"], row["runs"]) == ("nightly", "*/5 * * * *", "pack", "0")
    (document,) = shop("schedules", "list", "--json").json["schedules"]
    assert (document["cron"], document["zone"], document["is_paused"]) == ("*/5 * * * *", "UTC", False)


def test_a_rule_that_cannot_be_read_is_still_listed(shop: Shop) -> None:
    shop.add(id="odd", rule="rubbish", offset_at=shop.now)
    shop.add(id="odder", rule="[]", offset_at=shop.now)
    assert [row["cron"] for row in shop("schedules", "list").table] == ["?", "?"]


def test_a_schedule_is_paused_and_resumed(shop: Shop) -> None:
    shop.schedule("nightly")
    assert shop("schedules", "pause", "nightly").out == "nightly\tpaused\n"
    (row,) = shop("schedules", "list").table
    assert row["note"] == "paused"
    assert shop("schedules", "resume", "nightly").out == "nightly\tresumed\n"
    again = shop("schedules", "resume", "nightly")
    assert (again.code, again.out) == (3, "")
    assert "not paused" in again.err


def test_run_now_is_a_job_of_its_own(shop: Shop) -> None:
    shop.schedule("nightly", payload=b'[["tea"],{}]', queue="late")
    before = shop.storage.get(["nightly"])
    answer = shop("schedules", "run-now", "nightly")
    id, word = answer.out.strip().split("\t")
    (job,) = shop.storage.get([id])
    assert (word, job.task, job.payload, job.rule, job.queue) == ("pending", "pack", b'[["tea"],{}]', None, "late")
    assert shop.storage.get(["nightly"]) == before


@pytest.mark.parametrize("command", ["pause", "resume", "run-now"])
def test_what_is_no_schedule_is_not_found(shop: Shop, command: str) -> None:
    job = shop.add()
    assert shop("schedules", command, job).code == 3
    assert shop("schedules", command, "nope").code == 3


# -- queues ------------------------------------------------------------------------------------------------------------


@pytest.mark.promise("t10")
def test_a_queue_that_no_worker_serves_is_reported(shop: Shop) -> None:
    shop.worker("pack", queues=("early",))
    shop.add(queue="late")
    rows = {row["queue"]: row for row in shop("queues", "list").table}
    assert rows["late"]["note"] == "no worker serves this queue"
    assert (rows["early"]["workers"], rows["early"]["note"]) == ("1", "")
    shop.worker("pack")
    states = {state["name"]: state for state in shop("queues", "list", "--json").json["queues"]}
    assert (states["late"]["workers"], states["late"]["note"], states["late"]["pending"]) == (1, "", 1)


def test_a_queue_is_paused_and_resumed(shop: Shop) -> None:
    shop.add(queue="late")
    shop.add(queue="early")
    assert shop("queues", "pause", "late", "early").out == "late\tpaused\nearly\tpaused\n"
    assert shop.storage.paused_queues() == ["early", "late"]
    assert [row["note"] for row in shop("queues", "list").table] == ["paused", "paused"]
    assert shop("queues", "resume", "late", "early").code == 0
    assert shop.storage.paused_queues() == []


# -- workers and counts ------------------------------------------------------------------------------------------------


def test_workers_are_listed_with_what_they_do(shop: Shop) -> None:
    owner = shop.worker("pack", "wrap", queues=("default", "late"))
    job = shop.running(owner)
    shop.storage.register(OwnerProfile(OwnerRole.CLIENT, None, (), 0), now=shop.now)
    (row,) = shop("workers").table
    assert (row["queues"], row["tasks"], row["slots"], row["running"]) == ("default, late", "2", "4 async", "1")
    assert {row["role"] for row in shop("workers", "--all").table} == {"worker", "client"}
    (document,) = shop("workers", "--json").json["workers"]
    assert (document["tasks"], document["jobs"], document["is_alive"]) == (["pack", "wrap"], [job], True)


def test_stats_count_by_word(shop: Shop) -> None:
    owner = shop.worker("pack", "wrap")
    shop.ended(owner, "success")
    shop.add(queue="late")
    shop.add(task="wrap", queue="late")
    totals = {"pending": 2, "running": 0, "complete": 1, "failed": 0, "dead": 0, "cancelled": 0}
    document = shop("stats", "--json").json
    assert document == {**totals, "by_queue": document["by_queue"]}
    assert {queue: counts["pending"] for queue, counts in document["by_queue"].items()} == {"default": 0, "late": 2}
    assert shop("stats", "--by", "task", "--json").json["by_task"]["wrap"]["pending"] == 1
    assert shop("stats", "--queue", "default", "--task", "pack", "--json").json["pending"] == 0
    assert shop("stats").table[-1] == {"queue": "(all)", **{word: str(count) for word, count in totals.items()}}


def test_stats_are_watched_until_ctrl_c(shop: Shop) -> None:
    shop.add()
    watching = [sys.executable, "-m", "jobify", "stats", "--watch", "--every", "0.1", "--json", "--app", "shop:app"]
    with subprocess.Popen(watching, cwd=shop.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert [json.loads(process.stdout.readline())["pending"] for _ in range(2)] == [1, 1]
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20)[1] == b""
    assert process.returncode == 0


def test_stats_by_something_else_is_wrong_usage(shop: Shop) -> None:
    assert shop("stats", "--by", "colour").code == 2


def test_top_needs_a_terminal(shop: Shop) -> None:
    answer = shop("top")
    assert answer.code == 2
    assert "jobify stats --json" in answer.err


# -- the database ------------------------------------------------------------------------------------------------------


def test_migrate_makes_a_database_once(shop: Shop) -> None:
    shop.storage.close()
    shop.folder.joinpath("shop.db").unlink()
    assert shop("db", "migrate").out == f"{shop.database}\tschema version {NEWEST}\tmade\n"
    assert shop("db", "migrate").out == f"{shop.database}\tschema version {NEWEST}\tup to date\n"


def test_check_says_what_is_in_a_database_that_is_well(shop: Shop) -> None:
    shop.ended(shop.worker(), "failed")
    document = shop("db", "check", "--json").json
    assert (document["is_well"], document["problems"], document["jobs"], document["attempts"]) == (True, [], 1, 1)
    assert "integrity\tok\n" in shop("db", "check").out


def test_check_finds_damage(shop: Shop) -> None:
    for _ in range(200):
        shop.add(payload=b"x" * 500)
    shop.storage.close()
    with open("shop.db", "r+b") as file:
        file.seek(20 * 4096)
        file.write(b"\xff" * 8192)
    answer = shop("db", "check")
    assert answer.code == 1
    assert "Traceback" not in answer.err
    assert answer.err.startswith(f"jobify: The database {shop.database!r} ")


@pytest.mark.parametrize(
    ("pragma", "complaint"),
    [("user_version = 99", f"newer than {NEWEST}"), ("application_id = 7", "not written by Jobify")],
)
def test_check_refuses_what_this_release_cannot_use(shop: Shop, pragma: str, complaint: str) -> None:
    shop.storage.close()
    with closing(sqlite3.connect("shop.db")) as connection:
        connection.execute(f"PRAGMA {pragma}")
    answer = shop("db", "check")
    assert answer.code == 1
    assert complaint in answer.err
    assert shop("db", "vacuum").code == 1


def test_vacuum_gives_room_back(shop: Shop) -> None:
    ids = [shop.add(payload=b"x" * 5000) for _ in range(200)]
    shop.storage.delete(ids, now=shop.now, delete_at=None)
    assert shop("db", "vacuum").code == 0
    assert shop("db", "check", "--json").json["free"] == 0


def test_vacuum_is_refused_while_somebody_works(shop: Shop) -> None:
    owner = shop.worker()
    answer = shop("db", "vacuum")
    assert answer.code == 1
    assert "--force" in answer.err
    assert shop("db", "vacuum", "--force").code == 0
    shop.storage.deregister(owner)
    assert shop("db", "vacuum").code == 0


@pytest.mark.parametrize("command", [["jobs", "show", "a"], ["db", "check"], ["db", "vacuum"], ["stats", "--watch"]])
def test_without_a_database_none_is_made(shop: Shop, command: list[str]) -> None:
    shop.storage.close()
    shop.folder.joinpath("shop.db").unlink()
    answer = shop(*command)
    assert (answer.code, answer.out) == (1, "")
    assert f"There is no database {shop.database!r}" in answer.err
    assert not shop.folder.joinpath("shop.db").exists()


@pytest.mark.parametrize("name", ["jobs", "schedules", "queues", "workers"])
def test_without_a_database_lists_are_empty_and_say_so(shop: Shop, name: str) -> None:
    shop.storage.close()
    shop.folder.joinpath("shop.db").unlink()
    answer = shop(name, "--json")
    assert answer.json[name] == []
    assert f"There is no database {shop.database!r} yet" in answer.err
    assert shop("stats", "--json").json["pending"] == 0
    assert not shop.folder.joinpath("shop.db").exists()


def test_a_database_in_a_folder_that_is_not_there_is_an_error(shop: Shop) -> None:
    source = shop.folder.joinpath("shop.py")
    source.write_text(source.read_text().replace("shop.db", "nowhere/shop.db"))
    answer = shop("jobs", "list")
    assert (answer.code, answer.out) == (1, "")
    path = str(shop.folder / "nowhere" / "shop.db")
    assert f"There is no database {path!r} yet" in answer.err


@pytest.mark.parametrize("command", [["jobs", "list"], ["db", "check"]])
def test_an_app_in_memory_has_nothing_to_show(shop: Shop, command: list[str]) -> None:
    shop.folder.joinpath("shop.py").write_text("from jobify import Jobify\napp = Jobify(storage=False)\n")
    answer = shop(*command)
    assert (answer.code, answer.out) == (1, "")
    assert "memory" in answer.err.lower()


def test_a_list_of_schedules_may_be_longer_than_a_page(shop: Shop) -> None:
    names = [shop.schedule(f"s{number:04}") for number in range(501)]
    assert [row["id"] for row in shop("schedules", "list").table] == names


def test_times_are_those_of_the_app(shop: Shop) -> None:
    shop.folder.joinpath("shop.py").write_text(
        "from zoneinfo import ZoneInfo\nfrom jobify import Jobify\nfrom jobify.storage import SQLiteStorage\n"
        "app = Jobify(storage=SQLiteStorage('shop.db'), tz=ZoneInfo('Asia/Tokyo'))\n"
    )
    job = shop.add(created_at=5 * SECOND)
    assert "1970-01-01 09:00:05 JST" in shop("jobs", "show", job).out
    assert isinstance(shop.storage, SQLiteStorage)


# -- stopped schedules -------------------------------------------------------------------------------------------------


@pytest.mark.promise("f7")
def test_a_stopped_schedule_is_shown_and_resumed(shop: Shop) -> None:
    owner = shop.worker()
    shop.ended(owner, "permanently_failed", is_dead=True, id="nightly", rule=RULE, offset_at=shop.now)
    (row,) = shop("schedules", "list").table
    assert row["note"].startswith("stopped ")
    assert row["note"].endswith(": ValueError: no box")
    (document,) = shop("schedules", "list", "--json").json["schedules"]
    assert (document["status"], document["error"]) == ("dead", "ValueError: no box")
    assert document["stopped_at"] is not None
    assert shop("schedules", "resume", "nightly").out == "nightly\tresumed\n"
    (document,) = shop("schedules", "list", "--json").json["schedules"]
    assert (document["status"], document["stopped_at"], document["failure_count"]) == ("pending", None, 0)
    assert shop("schedules", "resume", "nightly").code == 3


@pytest.mark.promise("f7")
def test_a_schedule_that_has_ended_by_its_rule_is_not_resumed(shop: Shop) -> None:
    rule = RULE.replace("{", '{"max_runs": 0, ', 1)
    shop.ended(shop.worker(), "permanently_failed", is_dead=True, id="done", rule=rule, offset_at=shop.now)
    assert shop("schedules", "resume", "done").code == 3
    (document,) = shop("schedules", "list", "--json").json["schedules"]
    assert document["stopped_at"] is None
