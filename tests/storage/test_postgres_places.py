"""Claims while a transaction stays open: they begin where the last one has ended, for a while."""

from __future__ import annotations

import psycopg
import pytest

from jobify.storage import PostgresStorage
from jobify.storage.postgres import claims
from jobify.storage.postgres.places import SHARE, Places
from jobify.testing.rows import NOW, PROFILE, SECOND, claim, claim_once, job


@pytest.fixture
def storage(postgres_url: str) -> PostgresStorage:
    return PostgresStorage(postgres_url)


def test_places_hold_for_as_long_as_the_claim_from_the_start_justifies() -> None:
    now = 100.0
    places = Places(0.5, lambda: now)
    assert places.are_near
    assert places.remaining == SHARE * SECOND // 2
    now += SHARE * 0.5
    assert not places.are_near
    assert places.remaining == 0


def test_a_claim_goes_on_from_its_place_and_looks_back_later(
    storage: PostgresStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "_SLOW", -1.0)
    monkeypatch.setattr(claims.Claims, "_is_held_up", lambda self: True)
    storage.open()
    owner = storage.register(PROFILE, now=NOW)
    tasks = ("a", "b")
    storage.insert(
        [job(f"{task}{number}", task=task, due_at=NOW - 10 + number) for number in range(4) for task in tasks]
    )
    assert [one.id for one in claim_once(storage, owner, limit=3, tasks=tasks).claims] == ["a0", "b0", "a1"]
    storage.insert([job("urgent", task="a", priority=1), job("late", task="b", priority=-1)])
    assert [one.id for one in claim_once(storage, owner, limit=3, tasks=tasks).claims] == ["b1", "a2", "b2"]
    found = claim_once(storage, owner, limit=9, tasks=tasks)
    assert [one.id for one in found.claims] == ["a3", "b3", "late"]
    assert found.next_due_at is not None
    assert NOW < found.next_due_at <= NOW + SECOND
    for places in storage._claims._places.values():
        places._until = 0.0
    assert [one.id for one in claim_once(storage, owner, limit=9, tasks=tasks).claims] == ["urgent"]
    storage.close()


def test_an_open_snapshot_is_noticed(storage: PostgresStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "_PAUSE", 0.0)
    storage.open()
    owner = storage.register(PROFILE, now=NOW)
    with psycopg.connect(storage.url) as other:
        other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        other.execute("SELECT count(*) FROM jobify.jobs")
        for number in range(60):
            storage.insert([job(str(number))])
        assert storage._claims._is_held_up()
        monkeypatch.setattr(claims, "_OLD", 10**9)
        assert not storage._claims._is_held_up()
    assert len(claim(storage, owner)) == 60
    storage.close()
