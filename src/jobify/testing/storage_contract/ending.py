"""cancel, delete, record, purge, trim; expire."""

from __future__ import annotations

import pytest

from jobify.model.records import CancelResult, Expired, JobQuery, MessageKind
from jobify.storage.base import Storage
from jobify.testing.rows import (
    NOW,
    PROFILE,
    SECOND,
    again,
    claim,
    claimed,
    end,
    job,
    line,
    one,
    report,
    running,
    statuses,
)
from jobify.testing.storage_contract.given import StorageCase

__all__ = ("EndContract", "ExpiryContract")


class EndContract(StorageCase):
    # -- cancel --------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("due_at", [NOW, NOW + SECOND])
    def test_cancel_a_waiting_job(self, storage: Storage, owner: int, due_at: int) -> None:
        storage.insert([job("a", due_at=due_at)])
        before = one(storage, "a")
        met = storage.cancel(["a"], reason="no need", now=NOW + 1, delete_at=NOW + 9)
        assert met == [CancelResult.CANCELLED]
        after = one(storage, "a")._replace(ready=before.ready)
        assert after == before._replace(status="cancelled", error="no need", finished_at=NOW + 1, delete_at=NOW + 9)
        assert claim(storage, owner, now=NOW + SECOND) == []

    def test_cancel_a_running_job_is_a_request_to_its_owner(self, storage: Storage, owner: int) -> None:
        other = storage.register(PROFILE, now=NOW)
        storage.insert([running("a", owner), running("b", other), running("c", owner)])
        met = storage.cancel(["a", "b"], reason="stop", now=NOW, delete_at=None)
        assert met == [CancelResult.REQUESTED, CancelResult.REQUESTED]
        assert (one(storage, "a").status, one(storage, "a").is_cancel_requested) == ("running", True)
        assert storage.cancel_requests(owner) == ["a"]
        assert storage.cancel_requests(other) == ["b"]
        assert storage.cancel_requests(other + 1) == []
        assert one(storage, "c").is_cancel_requested is False

    def test_a_cancel_can_be_repeated(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner)])
        for _ in range(2):
            assert storage.cancel(["a", "a"], reason="stop", now=NOW, delete_at=None) == [CancelResult.REQUESTED] * 2
        assert storage.cancel_requests(owner) == ["a"]

    def test_a_cancel_drops_the_pending_replacement(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a")
        storage.replace(job("a", payload=b"2"))
        storage.cancel(["a"], reason="stop", now=NOW, delete_at=None)
        assert one(storage, "a").has_successor is False
        storage.settle([end(owner, found, status="cancelled", result=None)])
        record = one(storage, "a")
        assert (record.status, record.payload) == ("cancelled", found.payload)
        assert claim(storage, owner) == []

    def test_cancel_changes_nothing_that_has_ended(self, storage: Storage, owner: int) -> None:
        storage.settle([end(owner, claimed(storage, owner, "a"))])
        storage.insert([job("b", status="hibernating")])
        before = storage.find(JobQuery())
        met = storage.cancel(["a", "b"], reason="x", now=NOW, delete_at=None)
        assert met == [CancelResult.ENDED, CancelResult.ENDED]
        assert storage.find(JobQuery()) == before

    def test_cancel_answers_for_each_id_in_order(self, storage: Storage, owner: int) -> None:
        storage.insert([job("waits"), running("runs", owner)])
        storage.insert([job(f"{number:04}") for number in range(600)])
        ids = [f"{number:04}" for number in range(1200)]
        met = storage.cancel(["missing", "runs", *ids, "waits"], reason="x", now=NOW, delete_at=None)
        expected = [CancelResult.CANCELLED] * 600 + [CancelResult.MISSING] * 600
        assert met == [CancelResult.MISSING, CancelResult.REQUESTED, *expected, CancelResult.CANCELLED]
        assert storage.cancel([], reason="x", now=NOW, delete_at=None) == []

    # -- delete --------------------------------------------------------------------------------------------------------

    def test_delete_all_but_running_jobs(self, storage: Storage, owner: int) -> None:
        storage.settle([end(owner, claimed(storage, owner, "ended"), history=(line("ended"),))])
        storage.insert([job("waits"), job("later", due_at=NOW + 1), running("runs", owner), job("odd", status="odd")])
        assert (
            storage.delete(["ended", "waits", "later", "runs", "odd", "missing", "waits"], now=NOW, delete_at=None) == 4
        )
        assert [record.id for record in storage.find(JobQuery())] == ["runs"]
        assert storage.attempts("ended") == []
        assert claim(storage, owner, now=NOW + 1) == []

    def test_delete_many_and_none(self, storage: Storage) -> None:
        storage.insert([job(f"{number:04}") for number in range(1300)])
        assert storage.delete([], now=NOW, delete_at=None) == 0
        assert storage.delete([f"{number:04}" for number in range(2000)], now=NOW, delete_at=None) == 1300

    # -- record --------------------------------------------------------------------------------------------------------

    def test_record_adds_lines_in_order(self, storage: Storage) -> None:
        storage.insert([job("a"), job("b")])
        bare = line("a", error=None, traceback=None, started_at=None, owner=None, outcome="skipped")
        storage.add_history([line("a"), line("b"), bare])
        storage.add_history([])
        storage.add_history([line("a", attempt=3)])
        assert storage.attempts("a") == [line("a"), bare, line("a", attempt=3)]
        assert storage.attempts("b") == [line("b")]

    def test_a_line_keeps_the_code_of_the_run(self, storage: Storage, owner: int) -> None:
        storage.settle([end(owner, claimed(storage, owner, "a"), history=(line("a", code="1f"),))])
        storage.add_history([line("a", code="2e"), line("a")])
        assert [found.code for found in storage.attempts("a")] == ["1f", "2e", None]

    def test_a_line_without_a_job_is_dropped(self, storage: Storage) -> None:
        storage.insert([job("a")])
        storage.add_history([line("missing"), line("a")])
        assert storage.attempts("missing") == []
        assert storage.attempts("a") == [line("a")]

    def test_a_long_history(self, storage: Storage) -> None:
        storage.insert([job("a")])
        lines = [line("a", attempt=number, traceback="x" * 100) for number in range(1300)]
        storage.add_history(lines)
        assert storage.attempts("a") == lines

    # -- purge ---------------------------------------------------------------------------------------------------------

    def test_purge_deletes_what_has_come_to_its_end(self, storage: Storage, owner: int) -> None:
        for id, delete_at in (("past", NOW - 1), ("now", NOW), ("future", NOW + 1), ("never", None)):
            storage.settle([end(owner, claimed(storage, owner, id), delete_at=delete_at, history=(line(id),))])
        storage.insert([job("waits")])
        assert storage.purge(now=NOW, limit=100) == 2
        assert [record.id for record in storage.find(JobQuery())] == ["future", "never", "waits"]
        assert storage.attempts("past") == []
        assert storage.attempts("future") == [line("future")]
        assert storage.purge(now=NOW, limit=100) == 0

    def test_purge_takes_small_steps(self, storage: Storage, owner: int) -> None:
        jobs = [running(f"{number:02}", owner) for number in range(25)]
        storage.insert(jobs)
        storage.settle([end(owner, one, delete_at=NOW) for one in jobs])
        assert [storage.purge(now=NOW, limit=10) for _ in range(4)] == [10, 10, 5, 0]

    def test_a_new_job_in_the_place_of_an_ended_one_is_not_purged(self, storage: Storage, owner: int) -> None:
        for id in ("inserted", "put"):
            storage.settle([end(owner, claimed(storage, owner, id), delete_at=NOW)])
        storage.insert([job("inserted")])
        storage.replace(job("put"))
        assert storage.purge(now=NOW + SECOND, limit=100) == 0
        assert len(claim(storage, owner)) == 2

    # -- trim ----------------------------------------------------------------------------------------------------------

    def test_trim_keeps_the_newest_lines_of_each_schedule(self, storage: Storage, owner: int) -> None:
        counts = {"a": 5, "b": 3, "c": 2, "silent": 0}
        storage.insert(
            [job("b", rule="{}"), job("a", rule="{}"), running("c", owner, rule="{}"), job("silent", rule="{}")]
        )
        for attempt in range(5):
            storage.add_history([line(id, attempt=attempt) for id, count in counts.items() if attempt < count])
        assert storage.trim(keep=2, limit=100) == 4
        kept = {id: [found.attempt for found in storage.attempts(id)] for id in counts}
        assert kept == {"a": [3, 4], "b": [1, 2], "c": [0, 1], "silent": []}
        assert storage.trim(keep=2, limit=100) == 0
        storage.add_history([line("a", attempt=5)])
        assert [found.attempt for found in storage.attempts("a")] == [3, 4, 5]

    def test_trim_leaves_the_history_of_other_jobs_alone(self, storage: Storage, owner: int) -> None:
        storage.insert([job("waits"), running("runs", owner)])
        storage.add_history([line(id, attempt=attempt) for attempt in range(3) for id in ("waits", "runs")])
        assert storage.trim(keep=1, limit=100) == 0
        assert (len(storage.attempts("waits")), len(storage.attempts("runs"))) == (3, 3)

    def test_trim_reaches_schedules_that_have_ended(self, storage: Storage, owner: int) -> None:
        lines = tuple(line("a", attempt=attempt) for attempt in range(3))
        storage.settle([end(owner, claimed(storage, owner, "a", rule="{}"), history=lines)])
        assert storage.trim(keep=0, limit=100) == 3
        assert storage.attempts("a") == []

    def test_trim_takes_small_steps_and_the_oldest_lines_first(self, storage: Storage) -> None:
        storage.insert([job("a", rule="{}")])
        storage.add_history([line("a", attempt=attempt) for attempt in range(25)])
        assert storage.trim(keep=3, limit=0) == 0
        assert storage.trim(keep=3, limit=10) == 10
        assert [found.attempt for found in storage.attempts("a")] == list(range(10, 25))
        assert [storage.trim(keep=3, limit=10) for _ in range(3)] == [10, 2, 0]
        assert [found.attempt for found in storage.attempts("a")] == [22, 23, 24]

    def test_trim_keeps_the_newest_messages_of_each_schedule(self, storage: Storage, owner: int) -> None:
        talks, once = claimed(storage, owner, "talks", rule="{}"), claimed(storage, owner, "once")
        for found in (talks, once):
            storage.report([report(owner, found, b"%d" % number, MessageKind.VALUE) for number in range(1, 6)])
        storage.add_history([line("talks", attempt=attempt) for attempt in range(3)])
        assert [storage.trim(keep=2, limit=3) for _ in range(3)] == [3, 1, 0]
        assert [message.number for message in storage.messages("talks", after=0, limit=9)] == [4, 5]
        assert [message.number for message in storage.messages("talks", after=4, limit=9)] == [5]
        assert len(storage.messages("once", after=0, limit=9)) == 5

    def test_messages_are_numbered_on_however_much_was_trimmed(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a", rule="{}")
        storage.report([report(owner, found, b"1", MessageKind.VALUE), report(owner, found, b"2", MessageKind.VALUE)])
        assert storage.trim(keep=0, limit=100) == 1
        storage.report([report(owner, found, b"3", MessageKind.VALUE)])
        messages = storage.messages("a", after=1, limit=9)
        assert [(message.number, message.data) for message in messages] == [(2, b"2"), (3, b"3")]

    def test_trim_steps_through_several_schedules(self, storage: Storage) -> None:
        storage.insert([job("a", rule="{}"), job("b", rule="{}")])
        storage.add_history([line(id, attempt=attempt) for attempt in range(6) for id in ("a", "b")])
        assert [storage.trim(keep=1, limit=4) for _ in range(4)] == [4, 4, 2, 0]
        assert [[found.attempt for found in storage.attempts(id)] for id in ("a", "b")] == [[5], [5]]


# -- expiring ----------------------------------------------------------------------------------------------------------


class ExpiryContract(StorageCase):
    def test_a_job_that_waits_too_long_is_cancelled(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a", expires_at=NOW, task="t", origin=owner, due_at=NOW + SECOND)])
        before = one(storage, "a")
        assert storage.expire(now=NOW - 1, limit=9, delete_at=NOW + 9) == []
        assert storage.expire(now=NOW, limit=9, delete_at=NOW + 9) == [Expired("a", "t", owner)]
        assert one(storage, "a")._replace(ready=before.ready) == before._replace(
            status="cancelled", error="expired", finished_at=NOW, delete_at=NOW + 9
        )
        assert storage.expire(now=NOW, limit=9, delete_at=None) == []
        assert claim(storage, owner, tasks=("t",), now=NOW + SECOND) == []

    def test_only_what_waits_expires(self, storage: Storage, owner: int) -> None:
        storage.insert([job("runs", expires_at=NOW), job("cancelled", expires_at=NOW)])
        storage.cancel(["cancelled"], reason="x", now=NOW, delete_at=None)
        claim(storage, owner)
        storage.insert([job("odd", status="hibernating", expires_at=NOW), job("never")])
        before = storage.find(JobQuery())
        assert storage.expire(now=NOW + SECOND, limit=9, delete_at=None) == []
        assert storage.find(JobQuery()) == before

    def test_a_wait_for_the_next_attempt_is_a_wait(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a", expires_at=NOW + SECOND, queue="mail")
        assert found.expires_at == NOW + SECOND
        storage.settle([again(owner, found)])
        assert storage.expire(now=NOW + SECOND, limit=9, delete_at=None) == [Expired("a", "task", None, "mail", 1)]

    def test_the_longest_overdue_come_first_a_few_at_a_time(self, storage: Storage) -> None:
        storage.insert([job(f"{number:02}", expires_at=NOW - number) for number in range(25)])
        steps = [[found.id for found in storage.expire(now=NOW, limit=10, delete_at=None)] for _ in range(4)]
        assert [len(step) for step in steps] == [10, 10, 5, 0]
        assert sorted(steps[0]) == [f"{number:02}" for number in range(15, 25)]
        assert storage.expire(now=NOW, limit=0, delete_at=None) == []

    def test_a_replacement_has_an_expiry_of_its_own(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a", expires_at=NOW)
        storage.replace(job("a", expires_at=NOW + 5))
        storage.settle([again(owner, found)])
        assert one(storage, "a").expires_at == NOW + 5
        assert storage.expire(now=NOW + 4, limit=9, delete_at=None) == []
        storage.replace(job("a"))
        assert storage.expire(now=NOW + 5, limit=9, delete_at=None) == []

    def test_what_is_blocked_or_paused_expires_too(self, storage: Storage, owner: int) -> None:
        storage.insert([running("parent", owner), job("child", parents=("parent",), expires_at=NOW)])
        storage.insert([job("schedule", rule="{}", expires_at=NOW), job("queued", queue="q", expires_at=NOW)])
        storage.pause(["schedule"])
        storage.pause_queue("q")
        assert len(storage.expire(now=NOW, limit=9, delete_at=None)) == 3
        assert statuses(storage, ["child", "schedule", "queued"]) == ["cancelled"] * 3
        assert one(storage, "schedule").blockers == 0

    def test_many_expire_at_once(self, storage: Storage) -> None:
        storage.insert([job(f"{number:04}", expires_at=NOW) for number in range(1300)])
        assert len(storage.expire(now=NOW, limit=5000, delete_at=None)) == 1300
