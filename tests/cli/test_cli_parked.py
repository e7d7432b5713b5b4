"""What commands say of parked calls, and do with them."""

from __future__ import annotations

import json

import pytest

from cli_shop import SECOND, Shop
from probes import database_of

pytestmark = pytest.mark.promise("f34")

WHY = "pack() missing 1 required positional argument: 'weight'"


def test_lists_and_details_say_why(shop: Shop) -> None:
    id = shop.parked(shop.worker(), WHY, shop.now - 120 * SECOND)
    (line,) = shop("jobs", "list").table
    assert line["note"].startswith("parked 2 m ago: pack() missing")
    assert f"parked 2 m ago: {WHY}" in shop("jobs", "show", id).out
    document = shop("jobs", "show", id, "--json").json
    assert document["note"] == f"parked 2 m ago: {WHY}"
    assert (document["parked"]["reason"], document["parked"]["codes"]) == (WHY, ["a-code"])


def test_jobs_retry_tries_it_at_once(shop: Shop) -> None:
    id = shop.parked(shop.worker(), WHY, shop.now)
    assert shop("jobs", "retry", id).code == 0
    (row,) = shop.storage.get([id])
    assert (row.parking, row.blockers, row.status) == (None, 0, "scheduled")
    assert shop("jobs", "retry", id).code != 0


def test_schedules_say_why_and_are_resumed(shop: Shop) -> None:
    rule = '{"expression": "*/5 * * * *", "zone": "UTC"}'
    id = shop.parked(shop.worker(), WHY, shop.now - 120 * SECOND, rule=rule, id="nightly")
    (line,) = shop("schedules", "list").table
    assert line["note"].startswith("parked 2 m ago")
    assert shop("schedules", "resume", id).code == 0
    assert shop.storage.get([id])[0].parking is None


def test_health_tells_of_all_and_complains_of_those_that_wait_for_long(shop: Shop) -> None:
    owner = shop.worker()
    shop.parked(owner, WHY, shop.now - 120 * SECOND)
    answer = shop("health", "--json")
    (parked,) = answer.json["parked"]
    assert (parked["task_name"], parked["queue_name"], parked["reason"]) == ("pack", "default", WHY)
    assert "parked calls\t1\n" in shop("health").out
    old = shop.parked(owner, WHY, shop.now - 600 * SECOND, queue="late")
    answer = shop("health", "--json")
    assert answer.code == 1
    assert f"Job {old} (pack) is parked for 10 m: {WHY}." in answer.err
    assert len(json.loads(answer.out)["parked"]) == 2
    assert shop("health", "--max-wait", "2h").code == 0
    assert shop("health", "--queue", "default").code == 0
    shop.parked(owner, WHY, shop.now - 500 * SECOND)
    assert "is parked for 10 m, and 1 more:" in shop("health").err


def test_a_row_that_was_written_by_hand_is_shown(shop: Shop) -> None:
    id = shop.parked(shop.worker(), WHY, shop.now)
    database_of(shop.storage).execute("UPDATE jobs SET parked = 'nonsense' WHERE id = ?", (id,))
    assert "no reason was recorded" in shop("jobs", "show", id).out
    assert shop("health", "--max-wait", "10000000d").code == 0
