"""The last crash of a job, in restless times: the job is held until it is known what the crash proves."""

from __future__ import annotations

from jobify.model.records import Claimed, Recovered
from jobify.model.status import ClaimScope
from jobify.storage.base import Storage
from jobify.storage.suspicion import CALM, RESTLESS
from jobify.testing.rows import NOW, PROFILE, SECOND, again, ask, claim, die, ids_of, job, one, suspects
from jobify.testing.storage_contract.given import StorageCase
from jobify.types import Microseconds

__all__ = ("DoubtContract",)


def _held(storage: Storage, *, after: Microseconds = 2 * CALM) -> tuple[int, Microseconds]:
    """Have a job crash three times, so long after a death that was not its own; an owner, and the time of the last."""
    storage.insert([job("other")])
    ask(storage, storage.register(PROFILE, now=NOW), ClaimScope.ORDINARY)
    die(storage)
    storage.cancel(["other"], reason="stop", now=NOW, delete_at=None)
    storage.insert([job("a")])
    owner, now = storage.register(PROFILE, now=NOW), NOW + after
    for _ in range(3):
        assert ids_of(ask(storage, owner, ClaimScope.ORDINARY)) == ["a"]
        owner, _ = die(storage, now=now)
    return owner, now


class DoubtContract(StorageCase):
    def test_in_restless_times_the_last_crash_is_doubted(self, storage: Storage) -> None:
        owner, now = _held(storage)
        assert (one(storage, "a").status, one(storage, "a").crashes, one(storage, "a").is_apart) == (
            "scheduled",
            3,
            True,
        )
        for scope in ClaimScope:
            assert ask(storage, owner, scope, now=now) == Claimed([], False, None)
        assert storage.recover(now=now + CALM, max_crashes=3, delete_at=None) == []
        (failed,) = storage.recover(now=now + CALM + 1, max_crashes=3, delete_at=NOW + 9)
        assert failed == Recovered("a", "task", "failed", None)
        row = one(storage, "a")
        assert (row.status, row.crashes, row.is_dead, row.blockers, row.delete_at) == ("failed", 3, True, 0, NOW + 9)
        assert row.finished_at == now + CALM + 1
        assert "3" in (row.error or "")
        assert storage.recover(now=now + 9 * CALM, max_crashes=3, delete_at=None) == []

    def test_another_death_takes_the_last_crash_back(self, storage: Storage) -> None:
        owner, now = _held(storage)
        storage.insert([job("c")])
        assert ids_of(ask(storage, owner, ClaimScope.ORDINARY)) == ["c"]
        owner, _ = die(storage, now=now + CALM)
        storage.cancel(["c"], reason="stop", now=NOW, delete_at=None)
        assert storage.recover(now=now + CALM + 1, max_crashes=3, delete_at=None) == []
        assert (one(storage, "a").status, one(storage, "a").crashes, one(storage, "a").is_apart) == (
            "scheduled",
            2,
            True,
        )
        assert ids_of(ask(storage, owner, ClaimScope.APART)) == ["a"]
        owner, _ = die(storage, now=now + 2 * CALM + 1)
        assert (one(storage, "a").crashes, ids_of(ask(storage, owner, ClaimScope.ANY))) == (3, [])
        (failed,) = storage.recover(now=now + 4 * CALM, max_crashes=3, delete_at=None)
        assert failed.status == "failed"

    def test_another_death_counts_however_late_the_verdict_comes(self, storage: Storage) -> None:
        """No process lived for a while."""
        owner, now = _held(storage)
        storage.insert([job("c")])
        assert ids_of(ask(storage, owner, ClaimScope.ORDINARY)) == ["c"]
        die(storage, now=now + CALM)
        assert storage.recover(now=now + 5 * RESTLESS, max_crashes=3, delete_at=None) == []
        assert (one(storage, "a").status, one(storage, "a").crashes) == ("scheduled", 2)

    def test_a_trial_of_another_job_takes_nothing_back(self, storage: Storage) -> None:
        suspects(storage, ["b", "c"], deaths=3)
        owner, now = _held(storage)
        assert ids_of(ask(storage, owner, ClaimScope.APART)) == ["b"]
        owner, death = die(storage, now=now + SECOND)
        assert death.is_trial
        (failed,) = storage.recover(now=now + CALM + 1, max_crashes=3, delete_at=None)
        assert failed.id == "a"

    def test_long_after_other_deaths_the_last_crash_is_not_doubted(self, storage: Storage) -> None:
        _, _ = _held(storage, after=RESTLESS + 1)
        assert (one(storage, "a").status, one(storage, "a").crashes) == ("failed", 3)

    def test_a_clock_that_is_set_back_does_not_hold_a_job_for_longer(self, storage: Storage) -> None:
        _, now = _held(storage)
        (failed,) = storage.recover(now=now - 60 * 60 * SECOND, max_crashes=3, delete_at=None)
        assert failed.id == "a"

    def test_a_higher_limit_saves_a_job_that_is_held(self, storage: Storage) -> None:
        owner, now = _held(storage)
        assert storage.recover(now=now + CALM + 1, max_crashes=4, delete_at=None) == []
        assert (one(storage, "a").crashes, ids_of(ask(storage, owner, ClaimScope.APART))) == (3, ["a"])

    def test_a_job_that_is_held_can_be_cancelled_and_replaced(self, storage: Storage) -> None:
        _, now = _held(storage)
        storage.cancel(["a"], reason="stop", now=NOW, delete_at=None)
        assert storage.recover(now=now + CALM + 1, max_crashes=3, delete_at=None) == []
        assert one(storage, "a").status == "cancelled"
        storage.insert([job("parent"), job("a", parents=("parent",))])
        assert storage.recover(now=now + CALM + 1, max_crashes=3, delete_at=None) == []
        assert (one(storage, "a").status, one(storage, "a").blockers) == ("scheduled", 1)

    def test_a_replacement_is_never_judged_whatever_attempt_it_is_in(self, storage: Storage) -> None:
        """The attempts count from 0 again, and come to the number of the attempt that was lost."""
        _, now = _held(storage)
        owner, lost = storage.register(PROFILE, now=NOW), one(storage, "a").attempt
        storage.replace(job("a", rule="{}"))
        for attempt in range(lost + 1):
            row = one(storage, "a")
            assert (row.status, row.attempt, row.crashes, row.is_apart) == ("scheduled", attempt, 0, False)
            storage.pause(["a"])
            assert storage.recover(now=now + 9 * CALM, max_crashes=3, delete_at=None) == []
            storage.resume(["a"], now=NOW)
            assert storage.recover(now=now + 9 * CALM, max_crashes=3, delete_at=None) == []
            (found,) = claim(storage, owner)
            storage.settle([again(owner, found, ready=True, due_at=NOW)])

    def test_dependents_of_a_job_that_is_held_end_with_it(self, storage: Storage) -> None:
        _, now = _held(storage)
        storage.insert([job("after", parents=("a",))])
        assert one(storage, "after").status == "scheduled"
        storage.recover(now=now + CALM + 1, max_crashes=3, delete_at=None)
        assert one(storage, "after").status == "cancelled"
