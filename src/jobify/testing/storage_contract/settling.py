"""settle."""

from __future__ import annotations

import pytest

from jobify.model.records import JobRecord, Settled, Settlement
from jobify.storage.base import Storage
from jobify.storage.end_reasons import is_snoozed, snoozed
from jobify.testing.storage_contract.given import (
    NASTY_BYTES,
    NOW,
    SECOND,
    StorageCase,
    again,
    claim,
    claimed,
    end,
    job,
    line,
    one,
    running,
)

__all__ = ("SettleContract",)


class SettleContract(StorageCase):
    def test_an_end_is_written_whole(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a", offset_at=NOW, origin=owner)
        before = one(storage, "a")
        settlement = end(
            owner, found, attempt=7, run_count=8, failure_count=9, error="E: x", due_at=NOW + 3, offset_at=NOW + 4
        )
        assert storage.settle([settlement]) == [Settled.APPLIED]
        assert one(storage, "a") == before._replace(
            status="success",
            ready=False,
            due_at=NOW + 3,
            offset_at=NOW + 4,
            attempt=7,
            run_count=8,
            failure_count=9,
            result=b"null",
            error="E: x",
            finished_at=NOW + SECOND,
            delete_at=NOW + 60 * SECOND,
            owner=None,
        )

    def test_a_retry_waits_for_its_time(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a")
        assert storage.settle([again(owner, found, error="E: x")]) == [Settled.APPLIED]
        record = one(storage, "a")
        assert (record.status, record.owner, record.attempt, record.error) == ("scheduled", None, 1, "E: x")
        assert claim(storage, owner, now=NOW + 9 * SECOND) == []
        (found,) = claim(storage, owner, now=NOW + 10 * SECOND)
        assert found.attempt == 2

    def test_the_claim_of_a_schedule_says_that_its_run_was_put_off(self, storage: Storage, owner: int) -> None:
        for id, fields in {"plain": {}, "schedule": {"rule": "{}", "offset_at": NOW}}.items():
            found = claimed(storage, owner, id, **fields)
            assert not found.is_snoozed
            for error in (snoozed("not yet"), snoozed(None), "E: x", None):
                put_off = again(owner, found, ready=True, due_at=NOW, attempt=0, offset_at=NOW, error=error)
                assert storage.settle([put_off]) == [Settled.APPLIED]
                (found,) = claim(storage, owner)
                assert bool(found.is_snoozed) is (id == "schedule" and is_snoozed(error))
                assert found.attempt == 1

    def test_an_attempt_can_be_released_uncounted(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a")
        storage.settle([again(owner, found, ready=True, due_at=found.due_at, attempt=found.attempt - 1)])
        (found,) = claim(storage, owner)
        assert found.attempt == 1

    def test_nothing_to_settle(self, storage: Storage) -> None:
        assert storage.settle([]) == []

    @pytest.mark.parametrize("result", [None, *NASTY_BYTES], ids=range(1 + len(NASTY_BYTES)))
    def test_results_come_back_byte_for_byte(self, storage: Storage, owner: int, result: bytes | None) -> None:
        claims = [claimed(storage, owner, id) for id in "abc"]
        results = [b"before", result, None]
        storage.settle([end(owner, found, result=value) for found, value in zip(claims, results, strict=True)])
        assert [one(storage, id).result for id in "abc"] == results
        assert {record.id: record.result for record in storage.get("abc")} == dict(zip("abc", results, strict=True))

    # -- claims that do not hold ---------------------------------------------------------------------------------------

    def test_a_claim_holds_once(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a")
        assert storage.settle([end(owner, found)]) == [Settled.APPLIED]
        self._is_refused(storage, "a", [end(owner, found, status="failed", history=(line("a"),))])

    def test_a_claim_of_another_owner_does_not_hold(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a")
        self._is_refused(storage, "a", [end(owner + 1, found, history=(line("a"),))])

    def test_an_old_fence_does_not_hold(self, storage: Storage, owner: int) -> None:
        old = claimed(storage, owner, "a")
        storage.settle([again(owner, old, ready=True, due_at=NOW)])
        (new,) = claim(storage, owner)
        self._is_refused(storage, "a", [end(owner, old, history=(line("a"),))])
        assert storage.settle([end(owner, old), end(owner, new, result=b"new")]) == [Settled.REFUSED, Settled.APPLIED]
        assert one(storage, "a").result == b"new"

    def test_a_claim_on_a_job_that_is_gone_does_not_hold(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a")
        storage.settle([end(owner, found)])
        storage.delete(["a"], now=NOW, delete_at=None)
        assert storage.settle([end(owner, found, history=(line("a"),))]) == [Settled.REFUSED]
        assert storage.get(["a"]) == []
        assert storage.attempts("a") == []

    def test_a_waiting_job_cannot_be_settled(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a")])
        record = one(storage, "a")
        self._is_refused(storage, "a", [end(owner, job("a", fence=record.fence))])

    def test_of_two_settlements_of_one_claim_the_first_holds(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a")
        first = end(owner, found, result=b"1", history=(line("a"),))
        second = end(owner, found, result=b"2", history=(line("a", error="2"),))
        assert storage.settle([first, second]) == [Settled.APPLIED, Settled.REFUSED]
        assert one(storage, "a").result == b"1"
        assert storage.attempts("a") == [line("a")]

    def test_one_that_does_not_hold_spoils_nothing(self, storage: Storage, owner: int) -> None:
        jobs = [running(f"{number:04}", owner) for number in range(1200)]
        storage.insert(jobs)
        storage.settle([end(owner, one) for one in jobs[::100]])
        settlements = [end(owner, one, result=b"second") for one in jobs]
        assert storage.settle(settlements) == [
            Settled.APPLIED if number % 100 else Settled.REFUSED for number in range(1200)
        ]
        assert one(storage, "0000").result == b"null"
        assert one(storage, "0001").result == b"second"

    def _is_refused(self, storage: Storage, id: str, settlements: list[Settlement]) -> None:
        before = (one(storage, id), storage.attempts(id))
        assert storage.settle(settlements) == [Settled.REFUSED]
        assert (one(storage, id), storage.attempts(id)) == before

    # -- history -------------------------------------------------------------------------------------------------------

    def test_history_is_written_with_the_settlement(self, storage: Storage, owner: int) -> None:
        first = claimed(storage, owner, "a")
        lines = (
            line("a", outcome="retry at", owner=owner),
            line("a", outcome="skipped", started_at=None, traceback=None),
        )
        storage.settle([again(owner, first, ready=True, due_at=NOW, history=lines)])
        (second,) = claim(storage, owner)
        storage.settle([end(owner, second, history=(line("a", attempt=2),))])
        assert storage.attempts("a") == [*lines, line("a", attempt=2)]

    # -- what is pending -----------------------------------------------------------------------------------------------

    def test_a_retry_of_a_job_that_is_to_be_cancelled_ends_it(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a")
        storage.cancel(["a"], reason="enough", now=NOW + 5, delete_at=NOW + 50)
        assert storage.settle([again(owner, found, history=(line("a"),))]) == [Settled.APPLIED]
        record = one(storage, "a")
        assert (record.status, record.error, record.owner) == ("cancelled", "enough", None)
        assert (record.finished_at, record.delete_at, record.is_cancel_requested) == (NOW + 5, NOW + 50, False)
        assert storage.attempts("a") == [line("a")]
        assert claim(storage, owner, now=NOW + 3600 * SECOND) == []

    def test_an_end_comes_before_a_cancel(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a")
        storage.cancel(["a"], reason="enough", now=NOW + 5, delete_at=NOW + 50)
        assert storage.settle([end(owner, found, history=(line("a"),))]) == [Settled.APPLIED]
        record = one(storage, "a")
        assert (record.status, record.result, record.error) == ("success", b"null", None)
        assert record.is_cancel_requested is False
        assert storage.cancel_requests(owner) == []
        assert storage.attempts("a") == [line("a")]

    def test_a_replacement_that_came_after_the_cancel_stands(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a")
        storage.cancel(["a"], reason="enough", now=NOW, delete_at=None)
        storage.replace(job("a", payload=b"2"))
        assert storage.settle([again(owner, found)]) == [Settled.CASCADED]
        record = one(storage, "a")
        assert (record.status, record.payload, record.is_cancel_requested) == ("scheduled", b"2", False)
        (found,) = claim(storage, owner)
        assert storage.settle([again(owner, found)]) == [Settled.APPLIED]
        assert one(storage, "a").status == "scheduled"

    def test_all_kinds_in_one_call(self, storage: Storage, owner: int) -> None:
        claims = {id: claimed(storage, owner, id) for id in ("plain", "replaced", "cancelled", "ended", "lost")}
        storage.replace(job("replaced", payload=b"2"))
        storage.cancel(["cancelled", "ended"], reason="enough", now=NOW, delete_at=None)
        storage.settle([end(owner, claims["lost"])])
        how = {"plain": again, "replaced": end, "cancelled": again, "ended": end, "lost": again}
        settlements = [how[id](owner, found, history=(line(id),)) for id, found in claims.items()]
        assert storage.settle(settlements) == [
            Settled.APPLIED,
            Settled.CASCADED,
            Settled.APPLIED,
            Settled.APPLIED,
            Settled.REFUSED,
        ]
        found: dict[str, JobRecord] = {record.id: record for record in storage.get(list(claims))}
        assert {id: record.status for id, record in found.items()} == {
            "plain": "scheduled",
            "replaced": "scheduled",
            "cancelled": "cancelled",
            "ended": "success",
            "lost": "success",
        }
        assert [len(storage.attempts(id)) for id in claims] == [1, 1, 1, 1, 0]
