"""insert, put, move; report."""

from __future__ import annotations

from typing import Any

import pytest

from jobify.model.records import CountKey, JobQuery, JobRecord, MessageKind, MessageRecord, NewJob, Progress, Settled
from jobify.model.status import TERMINAL
from jobify.storage.base import Storage
from jobify.testing.rows import (
    NASTY_BYTES,
    NASTY_TEXTS,
    NOW,
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
)
from jobify.testing.storage_contract.given import StorageCase, undone

__all__ = ("ReportContract", "WriteContract")


_REQUESTED = [field for field in NewJob._fields if field in JobRecord._fields]
_NOTHING_YET = (None, None, None, None, 0, 0, 0, False, False, False, 0, None, False, None, False)


def _requested(record: JobRecord) -> NewJob:
    """The fields of the inserted row."""
    return NewJob(**{field: getattr(record, field) for field in _REQUESTED})


def _beyond(record: JobRecord) -> tuple[object, ...]:
    """The fields that no request has set: from ``finished_at`` to ``parking``."""
    return tuple(getattr(record, field) for field in JobRecord._fields if field not in _REQUESTED)


def _value(storage: Storage) -> Any:
    """What this storage has to keep: any object, if it is in memory."""
    return object() if storage.is_in_memory else NASTY_BYTES[-1]


class WriteContract(StorageCase):
    # -- values --------------------------------------------------------------------------------------------------------

    def test_values_come_back_as_they_are(self, storage: Storage, owner: int) -> None:
        payload, value, result = _value(storage), _value(storage), _value(storage)
        claim = claimed(storage, owner, "a", payload=payload)
        storage.report([report(owner, claim, value)])
        storage.settle([end(owner, claim, result=result)])
        assert claim.payload == payload
        assert (one(storage, "a").payload, one(storage, "a").result) == (payload, result)
        assert [message.data for message in storage.messages("a", after=0, limit=9)] == [value]

    # -- insert --------------------------------------------------------------------------------------------------------

    def test_what_was_inserted_can_be_read_back(self, storage: Storage, owner: int) -> None:
        whole = job(
            "a", rule='{"cron": 1}', options="{}", origin=owner, priority=-7, queue="mail", offset_at=NOW - 5
        )._replace(unique_key="k", expires_at=NOW + 5)
        assert storage.insert([whole]) == [True]
        record = one(storage, "a")
        assert _requested(record) == whole
        assert _beyond(record) == _NOTHING_YET

    def test_a_job_that_is_inserted_already_claimed_is_running(self, storage: Storage, owner: int) -> None:
        assert storage.insert([running("a", owner)]) == [True]
        assert _requested(one(storage, "a")) == running("a", owner)
        assert claim(storage, owner) == []
        assert storage.settle([end(owner, running("a", owner))]) == [Settled.APPLIED]
        assert one(storage, "a").status == "success"

    def test_nothing_to_insert(self, storage: Storage) -> None:
        assert storage.insert([]) == []

    @pytest.mark.parametrize("payload", NASTY_BYTES, ids=range(len(NASTY_BYTES)))
    def test_payloads_come_back_byte_for_byte(self, storage: Storage, owner: int, payload: bytes) -> None:
        storage.insert([job("a", payload=b"before"), job("b", payload=payload), job("c", payload=b"after")])
        assert [record.payload for record in storage.find(JobQuery())] == [b"before", payload, b"after"]
        assert [found.payload for found in claim(storage, owner)] == [b"before", payload, b"after"]

    @pytest.mark.parametrize("text", NASTY_TEXTS)
    def test_texts_come_back_letter_for_letter(self, storage: Storage, owner: int, text: str) -> None:
        odd = job(text, task=text, queue=text, rule=text, options=text)
        assert storage.insert([job("plain"), odd]) == [True, True]
        assert storage.insert([odd]) == [False]
        (found,) = claim(storage, owner, tasks=(text,), queues=(text,))
        assert (found.id, found.task, found.queue, found.rule, found.options) == (text,) * 5
        assert storage.settle([end(owner, found, error=text)]) == [Settled.APPLIED]
        assert one(storage, text).error == text
        assert storage.count(JobQuery(tasks=(text,))) == {CountKey(text, text, "success", False): 1}
        assert storage.delete([text], now=NOW, delete_at=None) == 1

    def test_times_and_numbers_may_be_large(self, storage: Storage) -> None:
        far = 2**62
        storage.insert([job("a", due_at=far, created_at=-far, priority=-far)])
        record = one(storage, "a")
        assert (record.due_at, record.created_at, record.priority) == (far, -far, -far)

    def test_an_id_that_waits_or_runs_is_taken(self, storage: Storage, owner: int) -> None:
        storage.insert([job("waits"), running("runs", owner)])
        again = [job("new"), job("waits", payload=b"other"), job("runs", payload=b"other")]
        assert storage.insert(again) == [True, False, False]
        assert one(storage, "waits").payload == one(storage, "runs").payload == job("x").payload
        assert one(storage, "runs").status == "running"

    def test_the_first_of_two_equal_ids_wins(self, storage: Storage) -> None:
        twice = [job("a", payload=b"1"), job("b"), job("a", payload=b"2")]
        assert storage.insert(twice) == [True, True, False]
        assert one(storage, "a").payload == b"1"

    @pytest.mark.parametrize("status", sorted(TERMINAL))
    def test_an_ended_job_makes_room_and_leaves_nothing(self, storage: Storage, owner: int, status: str) -> None:
        old = claimed(storage, owner, "a")
        storage.settle([end(owner, old, status=status, error="x", history=(line("a"),))])
        assert storage.insert([job("a", payload=b"new")]) == [True]
        record = one(storage, "a")
        assert _requested(record) == job("a", payload=b"new")
        assert (record.result, record.error, record.finished_at, record.delete_at) == (None, None, None, None)
        assert storage.attempts("a") == []

    def test_a_job_whose_status_is_not_known_keeps_its_place(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a", status="hibernating")])
        assert storage.insert([job("a")]) == [False]
        assert claim(storage, owner) == []
        assert one(storage, "a").status == "hibernating"

    def test_order_of_insertion_is_kept(self, storage: Storage, owner: int) -> None:
        ids = [f"{number:04}" for number in reversed(range(1500))]
        assert storage.insert([job(id) for id in ids]) == [True] * 1500
        assert [found.id for found in claim(storage, owner)] == ids

    def test_an_ended_job_that_is_inserted_again_comes_last(self, storage: Storage, owner: int) -> None:
        storage.settle([end(owner, claimed(storage, owner, "a"))])
        storage.insert([job("b"), job("a")])
        assert [found.id for found in claim(storage, owner)] == ["b", "a"]

    def test_many_with_some_that_are_taken(self, storage: Storage) -> None:
        ids = [f"{number:04}" for number in range(1300)]
        storage.insert([job(id) for id in ids[::100]])
        assert storage.insert([job(id) for id in ids]) == [number % 100 != 0 for number in range(1300)]

    # -- put -----------------------------------------------------------------------------------------------------------

    def test_put_where_nothing_is(self, storage: Storage) -> None:
        assert storage.replace(job("a", rule="{}", offset_at=NOW), Progress(3, 1)) is True
        record = one(storage, "a")
        assert _requested(record) == job("a", rule="{}", offset_at=NOW)
        assert (record.run_count, record.failure_count) == (3, 1)

    @pytest.mark.parametrize("status", ["scheduled", "success", "cancelled", "hibernating"])
    def test_put_replaces_what_does_not_run(self, storage: Storage, owner: int, status: str) -> None:
        old = claimed(storage, owner, "a", priority=1, rule="old", origin=owner)
        storage.settle([end(owner, old, status=status, run_count=5, failure_count=2, error="x", history=(line("a"),))])
        new = job("a", task="other", queue="q", payload=b"new", due_at=NOW + SECOND)
        assert storage.replace(new) is True
        record = one(storage, "a")
        assert _requested(record)._replace(fence=0) == new
        assert _beyond(record) == _NOTHING_YET
        assert record.fence > old.fence
        assert storage.attempts("a") == [line("a")]

    def test_put_keeps_the_place_in_the_order(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a"), job("b")])
        storage.replace(job("a"))
        assert [found.id for found in claim(storage, owner)] == ["a", "b"]

    def test_put_waits_for_the_end_of_a_running_job(self, storage: Storage, owner: int) -> None:
        old = claimed(storage, owner, "a")
        assert storage.replace(job("a", payload=b"2"), Progress(1, 0)) is False
        record = one(storage, "a")
        assert (record.status, record.payload, record.has_successor) == ("running", old.payload, True)
        assert claim(storage, owner) == []
        assert storage.settle([end(owner, old, history=(line("a"),))]) == [Settled.CASCADED]
        record = one(storage, "a")
        assert _requested(record)._replace(fence=0) == job("a", payload=b"2")
        assert _beyond(record) == (*_NOTHING_YET[:4], 1, *_NOTHING_YET[5:])
        assert record.fence > old.fence
        assert storage.attempts("a") == [line("a")]
        (found,) = claim(storage, owner)
        assert (found.payload, found.attempt, found.run_count) == (b"2", 1, 1)

    @pytest.mark.parametrize("how", [end, again])
    def test_a_replacement_comes_however_the_attempt_ends(self, storage: Storage, owner: int, how: object) -> None:
        old = claimed(storage, owner, "a")
        storage.replace(job("a", payload=b"2"))
        settlement = end(owner, old, status="failed") if how is end else again(owner, old)
        assert storage.settle([settlement]) == [Settled.CASCADED]
        assert (one(storage, "a").payload, one(storage, "a").status) == (b"2", "scheduled")
        assert storage.settle([settlement]) == [Settled.REFUSED]

    def test_a_second_put_supersedes_the_first(self, storage: Storage, owner: int) -> None:
        old = claimed(storage, owner, "a")
        assert [storage.replace(job("a", payload=payload)) for payload in (b"2", b"3")] == [False, False]
        storage.settle([end(owner, old)])
        (found,) = claim(storage, owner)
        assert found.payload == b"3"
        storage.settle([end(owner, found)])
        assert one(storage, "a").status == "success"

    def test_a_replacement_that_has_become_due_meanwhile_is_claimed(self, storage: Storage, owner: int) -> None:
        old = claimed(storage, owner, "a")
        storage.replace(job("a", due_at=NOW + SECOND))
        storage.settle([end(owner, old)])
        assert claim(storage, owner, now=NOW) == []
        assert [found.id for found in claim(storage, owner, now=NOW + SECOND)] == ["a"]

    # -- move ----------------------------------------------------------------------------------------------------------

    def test_move_a_waiting_job_away_and_back(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a", offset_at=NOW)])
        before = one(storage, "a")
        assert storage.reschedule("a", due_at=NOW + SECOND, now=NOW) is True
        assert claim(storage, owner) == []
        after = one(storage, "a")
        assert after.fence > before.fence
        assert after._replace(fence=before.fence) == before._replace(due_at=NOW + SECOND, ready=False)
        assert storage.reschedule("a", due_at=NOW - SECOND, now=NOW) is True
        assert [found.due_at for found in claim(storage, owner)] == [NOW - SECOND]

    def test_move_only_what_waits(self, storage: Storage, owner: int) -> None:
        storage.insert([running("runs", owner), job("hibernates", status="hibernating")])
        storage.settle([end(owner, claimed(storage, owner, "ended"))])
        before = storage.find(JobQuery())
        for id in ("runs", "hibernates", "ended", "missing"):
            assert storage.reschedule(id, due_at=NOW, now=NOW) is False
        assert storage.find(JobQuery()) == before


# -- reporting ---------------------------------------------------------------------------------------------------------
# report and messages: what running jobs have to say.

VALUE, LOG, PROGRESS = MessageKind.VALUE, MessageKind.LOG, MessageKind.PROGRESS


class ReportContract(StorageCase):
    def test_messages_come_back_in_order(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a")
        log = report(owner, found, "so far", LOG)._replace(level="info", at=NOW + 5)
        assert storage.report([report(owner, found, b"1"), log, report(owner, found, b"2")]) == [True] * 3
        assert storage.messages("a", after=0, limit=9) == [
            MessageRecord(1, VALUE, 1, NOW + 1, b"1", None),
            MessageRecord(2, LOG, 1, NOW + 5, "so far", "info"),
            MessageRecord(3, VALUE, 1, NOW + 1, b"2", None),
        ]
        assert [message.kind for message in storage.messages("a", after=1, limit=1)] == [LOG]
        assert storage.messages("a", after=3, limit=9) == []
        assert storage.messages("a", after=0, limit=0) == []
        assert storage.messages("missing", after=0, limit=9) == []
        assert storage.report([]) == []

    @pytest.mark.parametrize("data", [*NASTY_BYTES, *NASTY_TEXTS], ids=range(len(NASTY_BYTES) + len(NASTY_TEXTS)))
    def test_values_and_lines_come_back_as_they_were(self, storage: Storage, owner: int, data: bytes | str) -> None:
        found = claimed(storage, owner, "a")
        kind = LOG if isinstance(data, str) else VALUE
        storage.report([report(owner, found, data, kind)])
        (message,) = storage.messages("a", after=0, limit=9)
        assert (message.data, type(message.data)) == (data, type(data))

    def test_progress_is_kept_in_the_row(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a")
        assert one(storage, "a").progress is None
        assert storage.report([report(owner, found, value, PROGRESS) for value in (10.0, 62.5)]) == [True, True]
        assert one(storage, "a").progress == 62.5
        assert storage.messages("a", after=0, limit=9) == []
        storage.settle([end(owner, found)])
        assert one(storage, "a").progress == 62.5
        storage.insert([job("a")])
        assert one(storage, "a").progress is None

    def test_numbers_go_on_over_attempts(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a")
        storage.report([report(owner, found)])
        storage.settle([again(owner, found, ready=True, due_at=NOW)])
        (found,) = claim(storage, owner)
        storage.report([report(owner, found), report(owner, found)])
        messages = storage.messages("a", after=0, limit=9)
        assert [(message.number, message.attempt) for message in messages] == [(1, 1), (2, 2), (3, 2)]

    def test_each_job_counts_for_itself(self, storage: Storage, owner: int) -> None:
        jobs = [running("a", owner), running("b", owner)]
        storage.insert(jobs)
        storage.report([report(owner, job) for job in (*jobs, *jobs)])
        assert [[message.number for message in storage.messages(id, after=0, limit=9)] for id in "ab"] == [[1, 2]] * 2

    @pytest.mark.parametrize("kind", list(MessageKind))
    def test_a_claim_that_does_not_hold_says_nothing(self, storage: Storage, owner: int, kind: MessageKind) -> None:
        data = {VALUE: b"1", LOG: "line", PROGRESS: 5.0}[kind]
        lost = claimed(storage, owner, "a")
        good = claimed(storage, owner, "b")
        stale, foreign = lost._replace(fence=lost.fence + 1), report(owner + 1, lost, data, kind)
        reports = [report(owner, stale, data, kind), foreign, report(owner, good, data, kind)]
        assert storage.report(reports) == [False, False, True]
        storage.settle([again(owner, lost)])
        missing = lost._replace(id="missing")
        assert storage.report([report(owner, lost, data, kind), report(owner, missing, data, kind)]) == [False, False]
        assert (storage.messages("a", after=0, limit=9), one(storage, "a").progress) == ([], None)

    def test_messages_outlast_the_end_and_go_with_the_job(self, storage: Storage, owner: int) -> None:
        for id in ("deleted", "purged", "new"):
            found = claimed(storage, owner, id)
            storage.report([report(owner, found)])
            storage.settle([end(owner, found, delete_at=NOW if id == "purged" else None)])
            assert len(storage.messages(id, after=0, limit=9)) == 1
        storage.delete(["deleted"], now=NOW, delete_at=None)
        storage.purge(now=NOW, limit=9)
        storage.insert([job(id) for id in ("deleted", "purged", "new")])
        claims = claim(storage, owner)
        for found in claims:
            assert storage.messages(found.id, after=0, limit=9) == []
        storage.report([report(owner, found) for found in claims])
        assert [storage.messages(found.id, after=0, limit=9)[0].number for found in claims] == [1, 1, 1]

    def test_a_block_that_raises_has_taken_nothing_down(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a")
        undone(storage, lambda: storage.report([report(owner, found), report(owner, found, 5.0, PROGRESS)]))
        assert (storage.messages("a", after=0, limit=9), one(storage, "a").progress) == ([], None)
        storage.report([report(owner, found)])
        assert [message.number for message in storage.messages("a", after=0, limit=9)] == [1]

    def test_many_reports_at_once(self, storage: Storage, owner: int) -> None:
        jobs = [running(f"{number}", owner) for number in range(3)]
        storage.insert(jobs)
        reports = [report(owner, jobs[number % 3], str(number).encode()) for number in range(2000)]
        assert storage.report(reports) == [True] * 2000
        messages = storage.messages("1", after=100, limit=500)
        assert [(found.number, found.data) for found in messages] == [
            (number, str(3 * number - 2).encode()) for number in range(101, 601)
        ]

    def test_one_kind_is_read_by_itself(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a")
        kinds = [VALUE, LOG, VALUE, LOG, LOG]
        storage.report([report(owner, found, {VALUE: b"1", LOG: "line"}[kind], kind) for kind in kinds])
        assert [one.number for one in storage.messages("a", after=0, limit=9, kind=LOG)] == [2, 4, 5]
        assert [one.number for one in storage.messages("a", after=2, limit=1, kind=LOG)] == [4]
        assert [one.number for one in storage.messages("a", after=1, limit=9, kind=VALUE)] == [3]
        assert storage.messages("a", after=5, limit=9, kind=LOG) == []
