"""`jobify limits` and what other commands say of limits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cli_shop import Shop
from jobify.model.limit_gates import LimitDefinition
from jobify.model.records import ClaimRequest, TaskSlots

LIMITS = {
    "pack": [
        LimitDefinition("boxes", "concurrency", 2, key="size"),
        LimitDefinition("pack:rate", "rate", 100, 60_000_000, 5),
    ],
    "send": [LimitDefinition("send:concurrency", "concurrency", 1), LimitDefinition("send:rate", "rate", 1, 1_000_000)],
}


@pytest.fixture
def limited(shop: Shop) -> Shop:
    shop.storage.define_limits(LIMITS)
    return shop


def keyed(size: Any) -> str:
    return json.dumps({"limit_keys": {"size": json.dumps(size)}})


def wait_at_boxes(shop: Shop, *sizes: Any) -> list[str]:
    """Jobs that wait, because nothing is allowed."""
    shop.storage.set_limit("boxes", key=None, maximum=0)
    ids = [shop.add(options=keyed(size)) for size in sizes]
    shop.storage.claim(ClaimRequest(shop.worker("pack"), (TaskSlots(("pack",), 99),)), now=shop.now)
    return ids


def test_nothing_to_list(shop: Shop) -> None:
    assert shop("limits").code == 0
    assert any("No limits." in line for line in shop.on_terminal(100, "limits"))
    assert shop("limits", "list", "--json").json == {"limits": []}


def test_the_list_shows_keys_that_jobs_wait_for(limited: Shop) -> None:
    wait_at_boxes(limited, "big", "big", 7)
    document = limited("limits", "--json").json
    boxes = next(limit for limit in document["limits"] if limit["name"] == "boxes")
    assert (boxes["limit"], boxes["is_set"], boxes["waiting"], boxes["per"]) == (0, True, 3, None)
    assert [(key["key"], key["waiting"]) for key in boxes["keys"]] == [("big", 2), (7, 1)]
    rate = next(limit for limit in document["limits"] if limit["name"] == "pack:rate")
    assert (rate["kind"], rate["limit"], rate["per"], rate["burst"]) == ("rate", 100, 60.0, 5)
    out = limited("limits").out
    assert "100 / 60 s + 5" in out
    assert "0 (set)" in out


def test_set_and_reset(limited: Shop) -> None:
    assert limited("limits", "set", "boxes", "5").code == 0
    assert limited("limits", "set", "boxes", "0", "--key", "big").code == 0
    assert limited("limits", "set", "boxes", "1", "--key", "7").code == 0
    assert limited("limits", "set", "boxes", "1", "--key", '"7"').code == 0
    assert limited("limits", "set", "boxes", "1", "--key", "null").code == 0
    boxes = next(limit for limit in limited("limits", "--json").json["limits"] if limit["name"] == "boxes")
    assert boxes["limit"] == 5
    assert sorted((json.dumps(key["key"]), key["limit"]) for key in boxes["keys"]) == [
        ('"7"', 1),
        ('"big"', 0),
        ("7", 1),
        ("null", 1),
    ]
    for key in ("big", "7", '"7"', "null"):
        assert limited("limits", "reset", "boxes", "--key", key).code == 0
    assert limited("limits", "reset", "boxes").code == 0
    boxes = next(limit for limit in limited("limits", "--json").json["limits"] if limit["name"] == "boxes")
    assert (boxes["limit"], boxes["is_set"], boxes["keys"]) == (2, False, [])


def test_a_task_stands_for_its_only_limit_without_a_name(limited: Shop) -> None:
    assert limited("limits", "set", "pack", "7").code == 0
    rate = next(limit for limit in limited("limits", "--json").json["limits"] if limit["name"] == "pack:rate")
    assert rate["limit"] == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("set", "boxs", "1"), "Did you mean 'boxes'"),
        (("set", "send", "1"), "'send:concurrency', 'send:rate'"),
        (("set", "boxes", "-1"), ""),
        (("set", "boxes", "many"), ""),
        (("set", "pack", "1", "--key", "x"), "has no key"),
        (("reset", "boxs"), "Did you mean 'boxes'"),
    ],
)
def test_what_makes_no_sense_is_refused(limited: Shop, arguments: tuple[str, ...], message: str) -> None:
    answer = limited("limits", *arguments)
    assert answer.code != 0
    assert message in answer.err


def test_a_job_says_what_it_waits_for(limited: Shop) -> None:
    first, second = wait_at_boxes(limited, "big", "big")
    assert "boxes" in limited("jobs", "show", second).out
    assert "2nd in line" in limited("jobs", "show", second).out
    note = next(job["note"] for job in limited("jobs", "list", "--json").json["jobs"] if job["id"] == first)
    assert "limit boxes" in note
    limited("queues", "pause", "default")
    note = next(job["note"] for job in limited("jobs", "list", "--json").json["jobs"] if job["id"] == first)
    assert note == "the queue is paused"


def test_a_job_is_enqueued_with_keys_and_a_cost(limited: Shop) -> None:
    keys = ["--limit-key", "size=big", "--limit-key", "order.id=7"]
    done = limited("enqueue", "pack", *keys, "--cost", "5")
    (job,) = limited.storage.get([done.out.split("\t")[0]])
    assert json.loads(job.options) == {"limit_keys": {"size": '"big"', "order.id": "7"}, "cost": 5}
    done = limited("enqueue", "pack", "--limit-key", "size")
    assert (done.code, "--limit-key 'size' is not a pair" in done.err) == (2, True)
    done = limited("enqueue", "pack", "--cost", "106", "--database", "shop.db")
    assert (done.code, "never admits more than 105" in done.err) == (2, True)


@pytest.mark.parametrize(("on_excess", "code"), [("skip", 0), ("fail", 1)])
def test_a_job_that_a_limit_refuses_is_not_enqueued(shop: Shop, on_excess: str, code: int) -> None:
    limit = LimitDefinition("boxes", "concurrency", 0, on_excess=on_excess)
    shop.storage.define_limits({"pack": [limit]})
    done = shop("enqueue", "pack", "--database", "shop.db")
    assert done.code == code
    assert "boxes" in done.err
    if on_excess == "skip":
        assert done.out.split("\t")[1].strip() == "skipped"
