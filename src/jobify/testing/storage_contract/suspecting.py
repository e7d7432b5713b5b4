"""Jobs that had begun in a process that died: who is blamed, and who runs apart until that is known."""

from __future__ import annotations

import pytest

from jobify.model.records import Claim, Claimed, JobQuery, Recovered
from jobify.model.status import ClaimScope
from jobify.storage.base import Storage
from jobify.storage.suspicion import Death
from jobify.testing.rows import NOW, PROFILE, SECOND, again, ask, claim, die, end, ids_of, job, one, running, suspects
from jobify.testing.storage_contract.given import StorageCase

__all__ = ("SuspectContract",)

FIVE = ["a", "b", "c", "d", "e"]


class SuspectContract(StorageCase):
    # -- who is a suspect ----------------------------------------------------------------------------------------------

    def test_in_company_a_death_is_no_crash(self, storage: Storage) -> None:
        for _ in range(10):
            suspects(storage, FIVE, deaths=1)
            storage.delete(FIVE, now=NOW, delete_at=None)
        owner = suspects(storage, FIVE, deaths=1)
        assert [one(storage, id).crashes for id in FIVE] == [0] * 5
        assert [one(storage, id).attempt for id in FIVE] == [1] * 5
        assert [line.outcome for line in storage.attempts("a")] == ["lost"]
        assert ids_of(ask(storage, owner, ClaimScope.ORDINARY)) == FIVE

    def test_owners_of_one_process_die_together(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner), running("b", storage.register(PROFILE, now=NOW))])
        _, death = die(storage, max_crashes=1)
        assert (death.begun, [found.status for found in death.jobs]) == (2, ["scheduled"] * 2)

    def test_what_had_not_begun_is_no_suspect(self, storage: Storage, owner: int) -> None:
        begun = storage.begun(owner)
        storage.insert([job("begun"), job("over"), job("claimed")])
        claim(storage, owner)
        if begun is None:
            return  # this storage cannot know: all of them are suspects, as the other tests have it
        begun.enter("begun")
        begun.leave(begun.enter("over"))
        _, death = die(storage)
        assert death.begun == 1
        assert [(one(storage, id).attempt, one(storage, id).crashes) for id in ("begun", "claimed")] == [(1, 1), (0, 0)]
        assert [len(storage.attempts(id)) for id in ("begun", "claimed")] == [1, 0]
        assert [line.outcome for line in storage.attempts("begun")] == ["lost"]

    def test_jobs_of_other_storages_are_company(self, storage: Storage, owner: int) -> None:
        begun = storage.begun(owner)
        storage.insert([running("a", owner)])
        if begun is not None:
            begun.enter("a")
            begun.enter("a job in memory")
            _, death = die(storage, max_crashes=1)
            assert (death.begun, one(storage, "a").status, one(storage, "a").crashes) == (2, "scheduled", 0)

    def test_any_number_of_jobs_may_have_begun(self, storage: Storage, owner: int) -> None:
        begun = storage.begun(owner)
        ids = [f"{number:05}" for number in range(20_000)]
        if begun is not None:
            storage.insert([running(id, owner) for id in ids])
            slots = [begun.enter(id) for id in ids]
            for slot in slots[1:]:
                begun.leave(slot)
            _, death = die(storage, max_crashes=1)
            assert [found.id for found in death.jobs if found.status == "failed"] == ids[:1]

    def test_a_death_says_what_it_was(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner, origin=7), running("b", owner)])
        storage.cancel(["b"], reason="stop", now=NOW, delete_at=None)
        (record,) = storage.owners()
        _, death = die(storage, now=NOW + SECOND)
        assert death == Death(
            id=death.id,
            at=NOW + SECOND,
            host=record.host,
            pid=record.pid,
            begun=2,
            is_trial=False,
            jobs=(
                Recovered("a", "task", "scheduled", 7, attempt=1),
                Recovered("b", "task", "cancelled", owner, attempt=1),
            ),
        )
        _, later = die(storage)
        assert (later.id > death.id, later.begun, later.jobs) == (True, 0, ())

    # -- who runs apart ------------------------------------------------------------------------------------------------

    def test_after_two_deaths_suspects_are_passed_over(self, storage: Storage) -> None:
        owner = suspects(storage, FIVE)
        storage.insert([job("ordinary")])
        assert [(one(storage, id).is_apart, one(storage, id).blockers) for id in FIVE] == [(True, 1)] * 5
        assert ask(storage, owner, ClaimScope.ORDINARY).has_suspects
        claimed = ask(storage, owner, ClaimScope.ORDINARY)
        assert (claimed.claims, claimed.has_more, claimed.has_suspects) == ([], False, True)
        assert one(storage, "ordinary").status == "running"
        assert not one(storage, "ordinary").is_apart

    def test_a_few_may_die_together_once_more(self, storage: Storage) -> None:
        owner = suspects(storage, ["a", "b"], deaths=3)
        assert ids_of(ask(storage, owner, ClaimScope.ORDINARY)) == []
        assert ids_of(ask(storage, owner, ClaimScope.APART)) == ["a"]

    @pytest.mark.parametrize("max_crashes", [1, 2])
    def test_no_job_has_a_death_to_spare(self, storage: Storage, max_crashes: int) -> None:
        owner = suspects(storage, ["a", "b"], deaths=max_crashes, max_crashes=max_crashes)
        assert [one(storage, id).status for id in "ab"] == ["scheduled"] * 2
        assert ids_of(ask(storage, owner, ClaimScope.ORDINARY)) == []
        assert ids_of(ask(storage, owner, ClaimScope.APART)) == ["a"]

    def test_few_are_tried_one_by_one(self, storage: Storage) -> None:
        owner = suspects(storage, FIVE)
        for id in FIVE:
            claimed = ask(storage, owner, ClaimScope.APART)
            assert (ids_of(claimed), claimed.has_suspects) == ([id], id != "e")
        assert ask(storage, owner, ClaimScope.APART) == Claimed([], False, None)

    def test_many_are_tried_in_groups_that_died_together(self, storage: Storage) -> None:
        owner = suspects(storage, [f"a{number:03}" for number in range(100)])
        storage.insert([job(f"b{number}") for number in range(20)])
        for _ in range(2):
            ask(storage, owner, ClaimScope.ORDINARY)
            owner, _ = die(storage)
        groups = []
        while (claimed := ask(storage, owner, ClaimScope.APART)).claims:
            groups.append(ids_of(claimed))
        assert [len(group) for group in groups] == [10] * 10 + [4] * 5
        assert all(len({id[0] for id in group}) == 1 for group in groups)

    def test_any_scope_takes_suspects_last(self, storage: Storage) -> None:
        owner = suspects(storage, FIVE)
        storage.insert([job("ordinary")])
        assert ids_of(ask(storage, owner, ClaimScope.ANY)) == ["ordinary"]
        assert ids_of(ask(storage, owner, ClaimScope.ANY)) == ["a"]

    def test_only_claimants_that_could_run_them_learn_of_suspects(self, storage: Storage) -> None:
        owner = suspects(storage, FIVE)
        for scope in ClaimScope:
            assert ask(storage, owner, scope, tasks=("other",)) == Claimed([], False, None)
            assert ask(storage, owner, scope, queues=("other",)) == Claimed([], False, None)
            assert ask(storage, owner, scope, limit=0) == Claimed([], False, None)
        storage.pause_queue("default")
        assert ask(storage, owner, ClaimScope.APART) == Claimed([], False, None)
        storage.resume_queue("default")
        assert ids_of(ask(storage, owner, ClaimScope.APART)) == ["a"]

    # -- what a trial says ---------------------------------------------------------------------------------------------

    def test_who_comes_to_an_end_is_no_suspect(self, storage: Storage) -> None:
        owner = suspects(storage, FIVE)
        claims = [ask(storage, owner, ClaimScope.APART).claims[0] for _ in FIVE]
        assert [(one(storage, id).status, one(storage, id).is_apart) for id in FIVE] == [("running", True)] * 5
        storage.settle([end(owner, claims[0]), again(owner, claims[1], ready=True, due_at=NOW, attempt=3)])
        assert (one(storage, "a").status, one(storage, "a").blockers, one(storage, "a").is_apart) == (
            "success",
            0,
            False,
        )
        assert (one(storage, "b").blockers, one(storage, "b").is_apart) == (0, False)
        assert ids_of(ask(storage, owner, ClaimScope.ORDINARY)) == ["b"]

    def test_a_suspect_that_is_released_stays_one(self, storage: Storage) -> None:
        owner = suspects(storage, FIVE)
        (found,) = ask(storage, owner, ClaimScope.APART).claims
        storage.settle([again(owner, found, ready=True, due_at=NOW, attempt=found.attempt - 1)])
        assert (one(storage, "a").status, one(storage, "a").is_apart) == ("scheduled", True)
        (found,) = ask(storage, owner, ClaimScope.APART).claims
        assert (found.id, found.attempt) == ("a", 3)
        storage.deregister(owner)
        owner = storage.register(PROFILE, now=NOW)
        assert (one(storage, "a").status, one(storage, "a").is_apart) == ("scheduled", True)
        assert ids_of(ask(storage, owner, ClaimScope.APART)) == ["a"]

    def test_the_death_of_a_trial_is_explained(self, storage: Storage) -> None:
        owner = suspects(storage, FIVE)
        ask(storage, owner, ClaimScope.APART)
        owner, death = die(storage)
        assert (death.begun, death.is_trial) == (1, True)
        assert (one(storage, "a").crashes, one(storage, "a").is_apart) == (1, True)
        storage.insert([job("ordinary")])
        ask(storage, owner, ClaimScope.APART)
        ask(storage, owner, ClaimScope.ORDINARY)
        _, death = die(storage)
        assert (death.begun, death.is_trial) == (2, False)

    def test_recent_deaths_are_those_that_no_trial_explains(self, storage: Storage) -> None:
        assert storage.recent_deaths(now=NOW) == []
        owner = suspects(storage, FIVE)
        assert storage.recent_deaths(now=NOW + SECOND) == [NOW, NOW]
        ask(storage, owner, ClaimScope.APART)
        die(storage, now=NOW + SECOND)
        assert storage.recent_deaths(now=NOW + 60 * SECOND) == [NOW, NOW]
        assert storage.recent_deaths(now=NOW - 60 * SECOND) == [NOW, NOW]
        assert storage.recent_deaths(now=NOW + 61 * SECOND) == []

    @pytest.mark.parametrize(("count", "most"), [(1, 3), (2, 6), (5, 5), (51, 6), (1000, 8)])
    def test_the_guilty_one_is_found(self, storage: Storage, count: int, most: int) -> None:
        """One of so many jobs kills its process at once; the others need only live until the end of theirs."""
        guilty = f"{count // 2:04}"
        storage.insert([job(f"{number:04}") for number in range(count)])
        owner = storage.register(PROFILE, now=NOW)
        deaths = 0
        scope = ClaimScope.ORDINARY
        while storage.find(JobQuery(statuses=("scheduled",), limit=1)):
            claims: list[Claim] = ask(storage, owner, scope).claims
            if any(found.id == guilty for found in claims):
                owner, _ = die(storage)
                deaths += 1
            else:
                storage.settle([end(owner, found) for found in claims])
            scope = ClaimScope.APART if scope is ClaimScope.ORDINARY else ClaimScope.ORDINARY
        (failed,) = storage.find(JobQuery(statuses=("failed",)))
        assert (failed.id, failed.crashes, failed.is_apart, failed.blockers) == (guilty, 3, False, 0)
        assert len(storage.find(JobQuery(statuses=("success",), limit=count))) == count - 1
        assert deaths <= most

    # -- what else may happen to a suspect -----------------------------------------------------------------------------

    def test_suspects_can_be_cancelled_and_deleted(self, storage: Storage) -> None:
        owner = suspects(storage, FIVE)
        storage.cancel(["a"], reason="stop", now=NOW, delete_at=None)
        storage.delete(["b"], now=NOW, delete_at=None)
        assert (one(storage, "a").status, one(storage, "a").blockers, one(storage, "a").is_apart) == (
            "cancelled",
            0,
            False,
        )
        storage.insert([job("a"), job("b")])
        assert ids_of(ask(storage, owner, ClaimScope.ORDINARY)) == ["a", "b"]
        assert ids_of(ask(storage, owner, ClaimScope.APART)) == ["c"]

    def test_a_replacement_is_no_suspect(self, storage: Storage) -> None:
        owner = suspects(storage, FIVE)
        storage.replace(job("a", payload=b"2"))
        ask(storage, owner, ClaimScope.APART)
        storage.replace(job("b", payload=b"2"))
        die(storage)
        for id in "ab":
            assert (one(storage, id).is_apart, one(storage, id).blockers, one(storage, id).crashes) == (False, 0, 0)

    def test_a_new_chance_is_a_clean_sheet(self, storage: Storage) -> None:
        owner = suspects(storage, FIVE)
        for _ in range(3):
            ask(storage, owner, ClaimScope.APART)
            owner, _ = die(storage)
            storage.cancel(FIVE[1:], reason="stop", now=NOW, delete_at=None)
        assert (one(storage, "a").status, one(storage, "a").crashes) == ("failed", 3)
        assert storage.retry(["a"], now=NOW) == [True]
        assert (one(storage, "a").crashes, one(storage, "a").is_apart) == (0, False)
        assert ids_of(ask(storage, owner, ClaimScope.ORDINARY)) == ["a"]
        die(storage, now=NOW + 60 * SECOND)
        assert (one(storage, "a").crashes, one(storage, "a").is_apart) == (1, False)

    def test_a_pause_holds_a_suspect_too(self, storage: Storage) -> None:
        storage.insert([job("a", rule="{}")])
        owner = suspects(storage, FIVE[1:])
        assert storage.pause(["a"]) == [True]
        assert (one(storage, "a").blockers, one(storage, "a").is_apart) == (2, True)
        assert ids_of(ask(storage, owner, ClaimScope.APART)) == ["b"]
        assert storage.resume(["a"], now=NOW) == [True]
        assert (one(storage, "a").blockers, one(storage, "a").is_apart) == (1, True)
        assert ids_of(ask(storage, owner, ClaimScope.APART)) == ["a"]
        storage.pause(["a"])
        (record,) = storage.get(("a",))
        storage.settle([again(owner, running("a", owner, fence=record.fence), due_at=NOW, attempt=0, run_count=1)])
        assert (one(storage, "a").blockers, one(storage, "a").is_apart) == (1, False)
        storage.resume(["a"], now=NOW)
        assert ids_of(ask(storage, owner, ClaimScope.ORDINARY)) == ["a"]

    def test_a_suspect_waits_for_its_time(self, storage: Storage) -> None:
        owner = suspects(storage, FIVE)
        assert storage.reschedule("a", due_at=NOW + SECOND, now=NOW)
        assert ids_of(ask(storage, owner, ClaimScope.APART)) == ["b"]
        assert ids_of(ask(storage, owner, ClaimScope.APART, now=NOW + SECOND)) == ["a"]

    def test_dependents_wait_for_a_suspect(self, storage: Storage) -> None:
        storage.insert([job(id) for id in FIVE])
        storage.insert([job("after", parents=("a",))])
        owner = suspects(storage, ["f"])
        (found,) = ask(storage, owner, ClaimScope.APART).claims
        storage.settle([end(owner, found)])
        assert ids_of(ask(storage, owner, ClaimScope.ORDINARY)) == ["after"]
