"""Opening and closing; register, retire, owners, recover."""

from __future__ import annotations

import os

import pytest

from jobify.model.records import CancelResult, CountKey, JobQuery, OwnerProfile, OwnerRole, Recovered, Settled
from jobify.storage.base import Storage
from jobify.testing.rows import NASTY_TEXTS, NOW, PROFILE, SECOND, again, claim, claimed, end, job, line, one, running
from jobify.testing.storage_contract.given import StorageCase

__all__ = ("OwnerContract", "ProfileContract")


# -- profiling ---------------------------------------------------------------------------------------------------------
# What owners say of themselves, and when they were seen.


class ProfileContract(StorageCase):
    @pytest.mark.parametrize(
        "profile",
        [
            OwnerProfile(OwnerRole.WORKER, None, (), 10),
            OwnerProfile(OwnerRole.CLIENT, (), (), 0),
            OwnerProfile(OwnerRole.WORKER, NASTY_TEXTS, NASTY_TEXTS, 1),
        ],
        ids=range(3),
    )
    def test_a_profile_comes_back_as_it_was(self, storage: Storage, profile: OwnerProfile) -> None:
        id = storage.register(profile, now=NOW)
        (owner,) = storage.owners()
        assert (owner.id, owner.profile, owner.started_at, owner.seen_at) == (id, profile, NOW, NOW)
        assert isinstance(owner.profile.role, OwnerRole)

    def test_a_beat_is_noted(self, storage: Storage, owner: int) -> None:
        other = storage.register(PROFILE, now=NOW)
        storage.heartbeat(owner, now=NOW + SECOND)
        seen = {found.id: (found.started_at, found.seen_at) for found in storage.owners()}
        assert seen == {owner: (NOW, NOW + SECOND), other: (NOW, NOW)}

    def test_a_heartbeat_keeps_no_other_owner_alive(self, storage: Storage, owner: int) -> None:
        storage.close()
        storage.open()
        storage.heartbeat(owner, now=NOW + SECOND)
        assert [found.is_alive for found in storage.owners()] == [False]

    def test_a_heartbeat_without_an_owner(self, storage: Storage, owner: int) -> None:
        storage.deregister(owner)
        storage.heartbeat(owner, now=NOW)
        assert storage.owners() == []


# -- owning ------------------------------------------------------------------------------------------------------------


def _crash(storage: Storage) -> None:
    """End the storage as the death of its process would, and open it again."""
    storage.close()
    storage.open()


class OwnerContract(StorageCase):
    # -- life ----------------------------------------------------------------------------------------------------------

    def test_open_and_close_any_number_of_times(self, storage: Storage) -> None:
        storage.open()
        storage.insert([job("a")])
        for _ in range(3):
            storage.close()
            storage.close()
            storage.open()
        storage.open()
        storage.insert([job("b")])
        assert one(storage, "b").status == "scheduled"

    def test_it_is_a_storage(self, storage: Storage) -> None:
        assert isinstance(storage, Storage)

    def test_what_is_in_memory_is_neither_durable_nor_shared(self, storage: Storage) -> None:
        assert not (storage.is_in_memory and (storage.is_durable or storage.is_shared))

    def test_its_clock_has_been_read_once_it_is_open(self, storage: Storage) -> None:
        assert storage.clock is None or storage.clock.is_synchronised

    def test_how_often_others_may_be_looked_at(self, storage: Storage) -> None:
        assert storage.poll_interval >= 0

    # -- register, owners, retire --------------------------------------------------------------------------------------

    def test_an_owner_lives_until_it_is_deregistered(self, storage: Storage) -> None:
        first, second = storage.register(PROFILE, now=NOW), storage.register(PROFILE, now=NOW + 1)
        owners = {owner.id: owner for owner in storage.owners()}
        assert set(owners) == {first, second}
        assert (owners[second].pid, owners[second].started_at) == (os.getpid(), NOW + 1)
        assert owners[first].host
        assert all(owner.is_alive for owner in owners.values())
        storage.deregister(first)
        assert [owner.id for owner in storage.owners()] == [second]

    def test_owner_ids_are_never_used_twice(self, storage: Storage) -> None:
        seen = set()
        for _ in range(5):
            owner = storage.register(PROFILE, now=NOW)
            assert owner not in seen
            seen.add(owner)
            storage.deregister(owner)

    def test_an_owner_that_is_not_deregistered_is_dead_after_close(self, storage: Storage, owner: int) -> None:
        _crash(storage)
        assert [(found.id, found.is_alive) for found in storage.owners()] == [(owner, False)]

    def test_deregister_releases_jobs_without_a_crash(self, storage: Storage, owner: int) -> None:
        other = storage.register(PROFILE, now=NOW)
        found = claimed(storage, owner, "a")
        storage.insert([running("b", other)])
        storage.deregister(owner)
        record = one(storage, "a")
        assert (record.status, record.owner, record.attempt, record.crashes) == ("scheduled", None, 1, 0)
        assert storage.attempts("a") == []
        assert one(storage, "b").status == "running"
        assert storage.settle([end(owner, found)]) == [Settled.REFUSED]
        (found,) = claim(storage, other)
        assert (found.id, found.attempt) == ("a", 2)

    def test_a_released_job_is_due(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner, due_at=NOW + SECOND, ready=False)])
        storage.deregister(owner)
        assert [found.id for found in claim(storage, storage.register(PROFILE, now=NOW))] == ["a"]
        _crash(storage)
        storage.recover(now=NOW, max_crashes=3, delete_at=None)
        assert [found.id for found in claim(storage, storage.register(PROFILE, now=NOW))] == ["a"]

    def test_deregister_applies_what_is_pending(self, storage: Storage, owner: int) -> None:
        storage.insert([running("replaced", owner), running("cancelled", owner)])
        storage.replace(job("replaced", payload=b"2"))
        storage.cancel(["cancelled"], reason="stop", now=NOW + 1, delete_at=NOW + 2)
        storage.deregister(owner)
        assert (one(storage, "replaced").status, one(storage, "replaced").payload) == ("scheduled", b"2")
        record = one(storage, "cancelled")
        assert (record.status, record.error, record.finished_at) == ("cancelled", "stop", NOW + 1)

    def test_deregister_of_an_unknown_owner(self, storage: Storage, owner: int) -> None:
        storage.deregister(owner + 1)
        storage.deregister(owner)
        storage.deregister(owner)
        assert storage.owners() == []

    # -- leave ---------------------------------------------------------------------------------------------------------

    def test_what_an_owner_holds_that_leaves_is_released_later(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a", due_at=NOW - 7)
        before = one(storage, "a")
        alive = storage.register(PROFILE, now=NOW)
        release = storage.leave(owner)
        assert storage.recover(now=NOW, max_crashes=1, delete_at=None) == []
        assert one(storage, "a") == before
        assert {(found.id, found.is_alive) for found in storage.owners()} == {(owner, True), (alive, True)}
        release()
        release()
        (recovered,) = storage.recover(now=NOW + SECOND, max_crashes=1, delete_at=None)
        assert recovered == Recovered("a", "task", "scheduled", None, is_crash=False)
        assert one(storage, "a") == before._replace(status="scheduled", ready=True, owner=None, attempt=0)
        (attempt,) = storage.attempts("a")
        assert (attempt.outcome, attempt.attempt, attempt.due_at, attempt.error) == ("released", 1, NOW - 7, None)
        assert [found.id for found in storage.owners()] == [alive]
        assert storage.settle([end(owner, found)]) == [Settled.REFUSED]
        assert storage.recover(now=NOW, max_crashes=1, delete_at=None) == []
        release()

    def test_an_owner_that_has_left_outlives_its_storage(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner)])
        release = storage.leave(owner)
        _crash(storage)
        assert storage.recover(now=NOW, max_crashes=1, delete_at=None) == []
        assert [(found.id, found.is_alive) for found in storage.owners()] == [(owner, True)]
        release()
        (recovered,) = storage.recover(now=NOW, max_crashes=1, delete_at=None)
        assert (recovered.status, recovered.is_crash, one(storage, "a").crashes) == ("scheduled", False, 0)
        assert storage.owners() == []

    def test_what_is_pending_holds_when_an_owner_has_left(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "ended")
        storage.insert([running("replaced", owner), running("cancelled", owner)])
        storage.replace(job("replaced", payload=b"2"))
        storage.cancel(["cancelled"], reason="stop", now=NOW + 1, delete_at=NOW + 2)
        release = storage.leave(owner)
        assert storage.settle([end(owner, found)]) == [Settled.APPLIED], "what ends before the release is an outcome"
        release()
        recovered = storage.recover(now=NOW + 9, max_crashes=1, delete_at=None)
        assert {(job.id, job.status) for job in recovered} == {("replaced", "scheduled"), ("cancelled", "cancelled")}
        assert (one(storage, "replaced").payload, one(storage, "replaced").attempt) == (b"2", 0)
        assert (one(storage, "cancelled").error, one(storage, "cancelled").finished_at) == ("stop", NOW + 1)

    def test_an_owner_that_has_left_is_deregistered(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner)])
        release = storage.leave(owner)
        storage.deregister(owner)
        assert (one(storage, "a").status, one(storage, "a").attempt) == ("scheduled", 0)
        assert (storage.owners(), storage.attempts("a")) == ([], [])
        release()
        assert storage.recover(now=NOW, max_crashes=1, delete_at=None) == []

    def test_an_unknown_owner_leaves(self, storage: Storage, owner: int) -> None:
        storage.leave(owner + 1)()
        assert storage.owners()[0].is_alive

    # -- recover -------------------------------------------------------------------------------------------------------

    def test_no_owner_is_dead(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner), job("b")])
        before = storage.find(JobQuery())
        assert storage.recover(now=NOW, max_crashes=1, delete_at=None) == []
        assert storage.find(JobQuery()) == before

    def test_the_jobs_of_a_dead_owner_wait_again(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a", origin=owner, due_at=NOW - 7, task="t")
        before = one(storage, "a")
        _crash(storage)
        alive = storage.register(PROFILE, now=NOW)
        recovered = storage.recover(now=NOW + SECOND, max_crashes=3, delete_at=None)
        assert recovered == [Recovered("a", "t", "scheduled", owner, attempt=1)]
        assert one(storage, "a") == before._replace(status="scheduled", ready=True, owner=None, crashes=1)
        (attempt,) = storage.attempts("a")
        assert (attempt.outcome, attempt.attempt, attempt.due_at, attempt.owner) == ("lost", 1, NOW - 7, owner)
        assert (attempt.started_at, attempt.finished_at) == (NOW, NOW + SECOND)
        assert [owner.id for owner in storage.owners()] == [alive]
        assert storage.settle([end(owner, found)]) == [Settled.REFUSED]
        (found,) = claim(storage, alive, tasks=("t",))
        assert (found.attempt, found.crashes) == (2, 1)
        assert storage.recover(now=NOW, max_crashes=3, delete_at=None) == []

    def test_an_owner_that_held_nothing_is_removed(self, storage: Storage, owner: int) -> None:
        _crash(storage)
        assert storage.recover(now=NOW, max_crashes=3, delete_at=None) == []
        assert storage.owners() == []

    def test_a_job_that_took_too_many_processes_down_fails(self, storage: Storage) -> None:
        storage.insert([job("a")])
        for crash in (1, 2, 3):
            (found,) = claim(storage, storage.register(PROFILE, now=NOW))
            assert (found.crashes, found.attempt) == (crash - 1, crash)
            _crash(storage)
            (recovered,) = storage.recover(now=NOW + 5, max_crashes=3, delete_at=NOW + 50)
        assert recovered == Recovered("a", "task", "failed", None, attempt=3)
        record = one(storage, "a")
        assert (record.status, record.crashes, record.owner, record.attempt) == ("failed", 3, None, 3)
        assert (record.finished_at, record.delete_at) == (NOW + 5, NOW + 50)
        assert record.error is not None
        assert record.error.startswith("JobLostError: ")
        assert [attempt.outcome for attempt in storage.attempts("a")] == ["lost"] * 3

    def test_a_schedule_that_took_too_many_processes_down_is_kept(self, storage: Storage) -> None:
        storage.insert([job("a", rule="{}")])
        claim(storage, storage.register(PROFILE, now=NOW))
        _crash(storage)
        storage.recover(now=NOW + 5, max_crashes=1, delete_at=NOW + 50)
        record = one(storage, "a")
        assert (record.status, record.finished_at, record.delete_at) == ("failed", NOW + 5, None)

    def test_crashes_are_those_of_the_run_at_hand(self, storage: Storage) -> None:
        storage.insert([job("a")])
        claim(storage, storage.register(PROFILE, now=NOW))
        _crash(storage)
        storage.recover(now=NOW, max_crashes=3, delete_at=None)
        owner = storage.register(PROFILE, now=NOW)
        (found,) = claim(storage, owner)
        storage.settle([again(owner, found, ready=True, due_at=NOW, attempt=found.attempt)])
        (found,) = claim(storage, owner)
        assert found.crashes == 1, "a retry belongs to the same run"
        storage.settle([again(owner, found, ready=True, due_at=NOW, attempt=found.attempt, is_lost=True)])
        (found,) = claim(storage, owner)
        assert found.crashes == 2, "a crash that its owner has outlived counts, too"
        storage.settle([again(owner, found, ready=True, due_at=NOW, attempt=0)])
        (found,) = claim(storage, owner)
        assert (found.attempt, found.crashes) == (1, 0)
        assert claim(storage, storage.register(PROFILE, now=NOW)) == []

    def test_a_replaced_job_becomes_its_replacement(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner)])
        storage.replace(job("a", payload=b"2"))
        _crash(storage)
        (recovered,) = storage.recover(now=NOW, max_crashes=1, delete_at=None)
        assert recovered.status == "scheduled"
        record = one(storage, "a")
        assert (record.status, record.payload, record.crashes, record.attempt) == ("scheduled", b"2", 0, 0)
        assert (record.has_successor, record.fence > 1) == (False, True)
        assert [attempt.outcome for attempt in storage.attempts("a")] == ["lost"]

    def test_a_job_that_was_to_be_cancelled_is(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner)])
        assert storage.cancel(["a"], reason="stop", now=NOW + 1, delete_at=NOW + 2) == [CancelResult.REQUESTED]
        _crash(storage)
        (recovered,) = storage.recover(now=NOW + 9, max_crashes=1, delete_at=None)
        assert recovered.status == "cancelled"
        record = one(storage, "a")
        assert (record.status, record.error, record.finished_at) == ("cancelled", "stop", NOW + 1)
        assert (record.delete_at, record.is_cancel_requested, record.crashes) == (NOW + 2, False, 1)
        assert [attempt.outcome for attempt in storage.attempts("a")] == ["lost"]

    def test_many_jobs_of_several_dead_owners(self, storage: Storage) -> None:
        owners = [storage.register(PROFILE, now=NOW) for _ in range(3)]
        storage.insert([running(f"{number:04}", owners[number % 3]) for number in range(1300)])
        storage.add_history([line("0001")])
        _crash(storage)
        alive = storage.register(PROFILE, now=NOW)
        storage.insert([running("alive", alive)])
        recovered = storage.recover(now=NOW, max_crashes=3, delete_at=None)
        assert sorted(job.id for job in recovered) == [f"{number:04}" for number in range(1300)]
        assert storage.count(JobQuery()) == {
            CountKey("task", "default", "scheduled", False): 1300,
            CountKey("task", "default", "running", False): 1,
        }
        assert [attempt.outcome for attempt in storage.attempts("0001")] == ["failed", "lost"]
        assert [owner.id for owner in storage.owners()] == [alive]
