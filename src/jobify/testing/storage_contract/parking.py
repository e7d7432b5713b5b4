"""Parked calls: settle with a parking, claims of the scope PARKED, retry."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jobify.model.records import Claim, Claimed, ClaimRequest, Parking, Settled, Settlement, TaskSlots
from jobify.model.status import ClaimScope
from jobify.storage.base import Storage
from jobify.testing.rows import (
    NOW,
    SECOND,
    after,
    again,
    ask,
    claim,
    claim_once,
    claimed,
    end,
    ids_of,
    job,
    line,
    one,
    running,
    statuses,
    suspects,
)
from jobify.testing.storage_contract.given import StorageCase, undone
from jobify.types import Microseconds

__all__ = ("ParkContract",)

_WHY = "PayloadError: no"


def _parked(owner: int, claim: Claim, code: str = "old", **fields: object) -> Settlement:
    """A settlement of a claim whose call does not fit this code."""
    usual = {
        "ready": True,
        "due_at": claim.due_at,
        "offset_at": claim.offset_at,
        "attempt": claim.attempt - 1,
        "error": _WHY,
        "history": (line(claim.id, outcome="parked", attempt=claim.attempt),),
        "parking": Parking(_WHY, NOW, (code,)),
    }
    return again(owner, claim, **{**usual, **fields})


def _park(storage: Storage, owner: int, id: str, code: str = "old", **fields: object) -> None:
    """Insert a job, and park it."""
    assert storage.settle([_parked(owner, claimed(storage, owner, id, **fields), code)]) == [Settled.APPLIED]


def _take(
    storage: Storage,
    owner: int,
    code: str = "new",
    *,
    limit: int = 100,
    tasks: tuple[str, ...] = ("task",),
    queues: tuple[str, ...] | None = None,
    now: Microseconds = NOW,
) -> Claimed:
    """Claim parked calls from one lane."""
    request = ClaimRequest(owner, (TaskSlots(tasks, limit),), queues, scope=ClaimScope.PARKED, code=code)
    return storage.claim(request, now=now)


def _ids(claimed: Claimed) -> list[str]:
    return [found.id for found in claimed.claims]


class ParkContract(StorageCase):
    def test_a_parked_job_waits_with_the_reason(self, storage: Storage, owner: int) -> None:
        before = claimed(storage, owner, "a", options="{}", priority=3)
        storage.settle([_parked(owner, before)])
        record = one(storage, "a")
        assert (record.status, record.owner, record.attempt, record.error) == ("scheduled", None, 0, _WHY)
        assert (record.blockers, record.parking) == (1, Parking(_WHY, NOW, ("old",)))
        assert (record.payload, record.options, record.due_at) == (before.payload, "{}", NOW)
        assert [line.outcome for line in storage.attempts("a")] == ["parked"]

    def test_ordinary_claims_skip_it_and_report_it(self, storage: Storage, owner: int) -> None:
        assert not claim_once(storage, owner).has_parked
        _park(storage, owner, "a")
        storage.insert([job("b")])
        found = claim_once(storage, owner, now=NOW + SECOND)
        assert (_ids(found), found.has_more, found.has_parked) == (["b"], False, True)

    def test_other_code_takes_it(self, storage: Storage, owner: int) -> None:
        _park(storage, owner, "a")
        assert _take(storage, owner, "old") == Claimed([], False, None)
        (found,) = _take(storage, owner).claims
        record = one(storage, "a")
        assert (found.id, found.attempt, found.payload) == ("a", 1, record.payload)
        assert (record.status, record.owner, record.fence) == ("running", owner, found.fence)
        assert (record.blockers, record.parking, record.started_at) == (0, None, NOW)
        assert _take(storage, owner) == Claimed([], False, None)
        assert not claim_once(storage, owner).has_parked
        assert any(storage.settle([end(owner, found)]))
        assert one(storage, "a").status == "success"

    def test_all_code_that_it_did_not_fit_is_remembered(self, storage: Storage, owner: int) -> None:
        _park(storage, owner, "a", "1")
        for code in ("2", "3"):
            (found,) = _take(storage, owner, code).claims
            storage.settle([_parked(owner, found, code)])
        parking = one(storage, "a").parking
        assert parking is not None
        assert parking.codes == ("1", "2", "3")
        assert [_ids(_take(storage, owner, code)) for code in ("1", "2", "3", "4")] == [[], [], [], ["a"]]

    def test_it_is_remembered_over_attempts(self, storage: Storage, owner: int) -> None:
        _park(storage, owner, "a", "1")
        (found,) = _take(storage, owner, "2").claims
        storage.settle([again(owner, found, due_at=NOW, ready=True)])
        assert (one(storage, "a").parking, one(storage, "a").blockers) == (None, 0)
        (found,) = claim(storage, owner)
        assert found.attempt == 2
        storage.settle([_parked(owner, found, "3")])
        assert one(storage, "a").attempt == 1
        assert [_ids(_take(storage, owner, code)) for code in ("1", "3", "2")] == [[], [], ["a"]]

    def test_what_is_remembered_is_bounded(self, storage: Storage, owner: int) -> None:
        _park(storage, owner, "a", "0")
        for number in range(1, 120):
            (found,) = _take(storage, owner, str(number)).claims
            storage.settle([_parked(owner, found, str(number))])
        parking = one(storage, "a").parking
        assert parking is not None
        assert parking.codes == tuple(str(number) for number in range(20, 120))

    def test_in_order_and_no_more_than_wanted(self, storage: Storage, owner: int) -> None:
        for id, due_at, priority in [("c", NOW, 0), ("a", NOW - 1, 0), ("b", NOW, 0), ("first", NOW, 1)]:
            _park(storage, owner, id, due_at=due_at, priority=priority)
        found = _take(storage, owner, limit=3)
        assert (_ids(found), found.has_more) == (["first", "a", "c"], True)
        assert _ids(_take(storage, owner)) == ["b"]
        assert _take(storage, owner, limit=0) == Claimed([], False, None)

    def test_only_of_these_tasks_and_queues(self, storage: Storage, owner: int) -> None:
        _park(storage, owner, "a", queue="mail")
        assert _ids(_take(storage, owner, tasks=("other",))) == []
        assert _ids(_take(storage, owner, queues=("default",))) == []
        storage.pause_queue("mail")
        assert _ids(_take(storage, owner)) == []
        storage.resume_queue("mail")
        assert _ids(_take(storage, owner, tasks=("other", "task"), queues=("default", "mail"))) == ["a"]

    def test_it_can_be_tried_at_once(self, storage: Storage, owner: int) -> None:
        _park(storage, owner, "a", expires_at=NOW + 9 * SECOND)
        before = one(storage, "a")
        assert storage.retry(["a"], now=NOW + SECOND) == [True]
        record = one(storage, "a")
        assert (record.parking, record.blockers, record.due_at, record.error) == (None, 0, NOW + SECOND, None)
        assert (record.expires_at, record.attempt, record.fence) == (NOW + 9 * SECOND, 0, before.fence + 1)
        assert storage.retry(["a"], now=NOW) == [False]
        (found,) = claim(storage, owner, now=NOW + SECOND)
        storage.settle([_parked(owner, found, "new")])
        assert _ids(_take(storage, owner, "old", now=NOW + SECOND)) == ["a"]

    def test_a_pause_goes_on(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a", rule="{}")
        storage.pause(["a"])
        storage.settle([_parked(owner, found)])
        assert one(storage, "a").blockers == 2
        assert _ids(_take(storage, owner)) == []
        storage.retry(["a"], now=NOW)
        assert (one(storage, "a").blockers, claim(storage, owner)) == (1, [])
        storage.resume(["a"], now=NOW)
        assert [found.id for found in claim(storage, owner)] == ["a"]

    @pytest.mark.parametrize("how", ["cancel", "expire", "delete"])
    def test_it_ends_like_any_job_that_waits(self, storage: Storage, owner: int, how: str) -> None:
        _park(storage, owner, "a", expires_at=NOW + 1)
        storage.insert([after("child", "a")])
        if how == "cancel":
            storage.cancel(["a"], reason="x", now=NOW, delete_at=None)
        elif how == "expire":
            assert [job.id for job in storage.expire(now=NOW + 1, limit=9, delete_at=None)] == ["a"]
        else:
            assert storage.delete(["a"], now=NOW, delete_at=None) == 1
        assert statuses(storage, ["a", "child"]) == ["missing" if how == "delete" else "cancelled", "cancelled"]
        for record in storage.get(["a", "child"]):
            assert (record.parking, record.blockers) == (None, 0)
        assert not claim_once(storage, owner).has_parked
        assert _ids(_take(storage, owner)) == []
        storage.insert([job("a")])
        assert [found.id for found in claim(storage, owner)] == ["a"]

    def test_those_that_depend_on_it_wait(self, storage: Storage, owner: int) -> None:
        _park(storage, owner, "a")
        storage.insert([after("child", "a")])
        (found,) = _take(storage, owner).claims
        assert claim(storage, owner) == []
        storage.settle([end(owner, found)])
        assert [found.id for found in claim(storage, owner)] == ["child"]

    def test_it_can_be_moved(self, storage: Storage, owner: int) -> None:
        _park(storage, owner, "a")
        assert storage.reschedule("a", due_at=NOW + SECOND, now=NOW)
        assert _ids(_take(storage, owner)) == []
        assert _ids(_take(storage, owner, now=NOW + SECOND)) == ["a"]

    @pytest.mark.parametrize("rule", [None, "{}"])
    def test_another_call_in_its_place_is_not_parked(self, storage: Storage, owner: int, rule: str | None) -> None:
        _park(storage, owner, "waits", rule=rule)
        _park(storage, owner, "runs", rule=rule)
        taken = {found.id: found for found in _take(storage, owner).claims}
        storage.settle([_parked(owner, taken["waits"], "new")])
        for id in taken:
            storage.replace(job(id, rule=rule))
        storage.settle([end(owner, taken["runs"])])
        claims = claim(storage, owner)
        assert sorted(found.id for found in claims) == ["runs", "waits"]
        storage.settle([_parked(owner, found, "newest") for found in claims])
        assert sorted(_ids(_take(storage, owner, "old"))) == ["runs", "waits"]

    def test_what_is_pending_comes_first(self, storage: Storage, owner: int) -> None:
        found = {id: claimed(storage, owner, id) for id in ("replaced", "cancelled", "deleted")}
        storage.replace(job("replaced"))
        storage.cancel(["cancelled"], reason="x", now=NOW, delete_at=None)
        late = found["deleted"]._replace(fence=9)
        settled = storage.settle([_parked(owner, each) for each in (found["replaced"], found["cancelled"], late)])
        assert [bool(each) for each in settled] == [True, True, False]
        assert statuses(storage, ["replaced", "cancelled"]) == ["scheduled", "cancelled"]
        for id in ("replaced", "cancelled"):
            assert (one(storage, id).parking, one(storage, id).blockers) == (None, 0)

    def test_what_has_ended_badly_since_is_tried_by_any_code(self, storage: Storage, owner: int) -> None:
        _park(storage, owner, "a", "1")
        (found,) = _take(storage, owner, "2").claims
        storage.settle([end(owner, found, status="failed")])
        assert storage.retry(["a"], now=NOW) == [True]
        (found,) = claim(storage, owner)
        storage.settle([_parked(owner, found, "2")])
        assert _ids(_take(storage, owner, "1")) == ["a"]

    def test_a_released_job_is_not_parked(self, storage: Storage, owner: int) -> None:
        _park(storage, owner, "a")
        _take(storage, owner)
        storage.deregister(owner)
        assert (one(storage, "a").status, one(storage, "a").blockers) == ("scheduled", 0)
        assert one(storage, "a").parking is None

    def test_a_job_on_trial_that_is_parked_is_no_suspect_any_more(self, storage: Storage) -> None:
        """Other code runs it, and nothing is known of that."""
        owner = suspects(storage, ["a", "b", "c", "d", "e"])
        on_trial = ask(storage, owner, ClaimScope.APART).claims[0]
        storage.settle([_parked(owner, on_trial)])
        record = one(storage, on_trial.id)
        assert (record.blockers, record.is_apart) == (1, False)
        assert on_trial.id not in ids_of(ask(storage, owner, ClaimScope.APART))
        assert _ids(_take(storage, owner)) == [on_trial.id]

    def test_many_are_parked_in_one_call(self, storage: Storage, owner: int) -> None:
        storage.insert([job(str(number)) for number in range(600)])
        storage.insert([running("plain", owner)])
        claims = claim(storage, owner)
        settled = [_parked(owner, each) for each in claims]
        assert all(storage.settle([*settled, end(owner, running("plain", owner))]))
        assert one(storage, "plain").status == "success"
        assert len(_take(storage, owner, limit=1000).claims) == 600

    @pytest.mark.parametrize("act", ["park", "take", "retry"])
    def test_a_block_that_raises_changes_nothing(self, storage: Storage, owner: int, act: str) -> None:
        found = claimed(storage, owner, "a")
        if act != "park":
            storage.settle([_parked(owner, found)])
        before = one(storage, "a")
        acts: dict[str, Callable[[], object]] = {
            "park": lambda: storage.settle([_parked(owner, found)]),
            "take": lambda: _take(storage, owner),
            "retry": lambda: storage.retry(["a"], now=NOW),
        }
        undone(storage, acts[act])
        assert one(storage, "a") == before
