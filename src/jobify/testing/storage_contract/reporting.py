"""report and messages: what running jobs have to say."""

from __future__ import annotations

import pytest

from jobify.model.records import MessageKind, MessageRecord
from jobify.storage.base import Storage
from jobify.testing.rows import NASTY_BYTES, NASTY_TEXTS, NOW, again, claim, claimed, end, job, one, report, running
from jobify.testing.storage_contract.given import StorageCase, undone

__all__ = ("ReportContract",)

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
