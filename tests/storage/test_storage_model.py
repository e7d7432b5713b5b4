"""Any sequence of calls: SQLite answers what the reference in memory answers, and both hold the same in the end."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from jobify.exceptions import UnknownDependencyError
from jobify.model.records import (
    Claim,
    ClaimRequest,
    JobQuery,
    JobRecord,
    MessageKind,
    NewJob,
    Parking,
    Progress,
    Report,
    Settlement,
    TaskSlots,
)
from jobify.model.status import ClaimScope
from jobify.storage import SQLiteStorage, Storage
from jobify.storage.memory import MemoryStorage
from jobify.testing.rows import NOW, PROFILE, again, end, job, line, running

pytestmark = pytest.mark.slow

IDS = st.sampled_from(["a", "b", "c", "d", "é\0'"])
TASKS = st.sampled_from(["x", "y", "z"])
QUEUES = st.sampled_from(["q", "r"])
TIMES = st.integers(NOW - 3, NOW + 3)
STATUSES = st.sampled_from(["success", "failed", "timeout", "cancelled", "permanently_failed"])
KEYS = st.sampled_from([None, None, "k", "l"])
PAYLOADS = st.sampled_from([b"", b"\xff\0", b"{}"])


@st.composite
def waiting(draw: st.DrawFn) -> NewJob:
    due_at = draw(TIMES)
    return job(
        draw(IDS),
        task=draw(TASKS),
        queue=draw(QUEUES),
        priority=draw(st.integers(-1, 1)),
        due_at=due_at,
        payload=draw(PAYLOADS),
        rule=draw(st.sampled_from([None, "{}"])),
        status=draw(st.sampled_from(["scheduled"] * 9 + ["odd"])),
        offset_at=draw(st.none() | TIMES),
        options=draw(st.sampled_from([None, "{}", '{"metadata": {"n": 1}}'])),
        unique_key=draw(KEYS),
        expires_at=draw(st.none() | TIMES),
        parents=tuple(draw(st.lists(IDS, max_size=2))) if draw(st.booleans()) else (),
    )


def _answer(storage: Storage, method: str, *args: Any, **kwargs: Any) -> Any:
    try:
        return getattr(storage, method)(*args, **kwargs)
    except UnknownDependencyError as error:
        return (error.job_id, error.parent_id)


def _because_of(record: JobRecord) -> str | None:
    """The parent that is the reason of a cancel."""
    match = re.fullmatch(
        "dependency (.*?) (was cancelled|was deleted|failed|failed for good|timed out|expired)(: .*)?",
        record.error or "",
        re.DOTALL,
    )
    return match and match[1]


def _but_for_the_reason(record: JobRecord) -> JobRecord:
    return record._replace(error=None, finished_at=None, delete_at=None)


class Model(RuleBasedStateMachine):
    """Calls each storage in the same way."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        path = Path(self._directory.name) / "jobs.db"
        self.storages: tuple[Storage, ...] = (MemoryStorage(), SQLiteStorage(path, synchronous="normal"))
        self.owners: list[int] = []
        self.claims: list[tuple[int, Claim | NewJob]] = []
        for storage in self.storages:
            storage.open()

    def teardown(self) -> None:
        for storage in self.storages:
            storage.close()
        self._directory.cleanup()

    def both(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call both; the answer, or UnknownDependencyError as a value."""
        memory, sqlite = (_answer(storage, method, *args, **kwargs) for storage in self.storages)
        assert memory == sqlite
        return memory

    @initialize()
    def enter(self) -> None:
        self.owners.append(self.both("register", PROFILE, now=NOW))

    @rule()
    def register(self) -> None:
        self.owners.append(self.both("register", PROFILE, now=NOW))

    @rule(data=st.data())
    def deregister(self, data: st.DataObject) -> None:
        self.both("deregister", data.draw(st.sampled_from(self.owners)))

    @rule(max_crashes=st.integers(1, 3), delete_at=st.none() | TIMES)
    def crash(self, max_crashes: int, delete_at: int | None) -> None:
        for storage in self.storages:
            storage.close()
            storage.open()
        self.owners.append(self.both("register", PROFILE, now=NOW))
        memory, sqlite = (
            storage.recover(now=NOW + 7, max_crashes=max_crashes, delete_at=delete_at) for storage in self.storages
        )
        assert sorted(memory) == sorted(sqlite)

    @rule(jobs=st.lists(waiting(), max_size=4))
    def insert(self, jobs: list[NewJob]) -> None:
        ids = [new.id for new in jobs]
        for number, new in enumerate(jobs):
            # Whether one that ended is the parent, or the one that takes its place in the same call, is left open; and
            # nobody adds a job that depends on others in a status of its own.
            known = [id for id in new.parents if id not in ids[number + 1 :] and new.status == "scheduled"]
            jobs[number] = new._replace(parents=tuple(known))
        self.both("insert", jobs)

    @rule(data=st.data(), id=IDS, task=TASKS, unique_key=KEYS, rule=st.sampled_from([None, "{}"]))
    def insert_running(self, data: st.DataObject, id: str, task: str, unique_key: str | None, rule: str | None) -> None:
        owner = data.draw(st.sampled_from(self.owners))
        new = running(id, owner, task=task, unique_key=unique_key, rule=rule)
        if self.both("insert", [new]) == [True]:
            self.claims.append((owner, new))

    @rule(new=waiting(), progress=st.none() | st.builds(Progress, st.integers(0, 9), st.integers(0, 9)))
    def replace(self, new: NewJob, progress: Progress | None) -> None:
        self.both("replace", new._replace(status="scheduled", unique_key=None, parents=()), progress)

    @rule(data=st.data(), now=TIMES, limit=st.integers(0, 3), queues=st.sampled_from([None, ("q",), ("r", "q"), ()]))
    def claim(self, data: st.DataObject, now: int, limit: int, queues: tuple[str, ...] | None) -> None:
        ahead = data.draw(st.sampled_from([0, 1]))
        owner = data.draw(st.sampled_from(self.owners))
        lanes = data.draw(st.sampled_from([(("x",),), (("x", "y"),), (("z",), ("y", "x")), (("x", "y", "z"),)]))
        scope = data.draw(st.sampled_from(ClaimScope))
        code = data.draw(st.sampled_from(["1", "2", "3"]))
        request = ClaimRequest(owner, tuple(TaskSlots(tasks, limit) for tasks in lanes), queues, ahead, scope, code)
        claimed = self.both("claim", request, now=now)
        self.claims += [(owner, claim) for claim in claimed.claims]

    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        some = data.draw(st.lists(st.sampled_from(self.claims), max_size=4)) if self.claims else []
        self.both("settle", [data.draw(self.settlements(owner, claim)) for owner, claim in some])

    @staticmethod
    @st.composite
    def settlements(draw: st.DrawFn, owner: int, claim: Claim | NewJob) -> Settlement:
        history = tuple(line(claim.id, attempt=number) for number in range(draw(st.integers(0, 2))))
        if draw(st.booleans()):
            due_at = draw(TIMES)
            parking = draw(st.none() | st.builds(Parking, st.just("no"), TIMES, st.sampled_from([("1",), ("2",)])))
            return again(owner, claim, due_at=due_at, ready=due_at <= NOW, history=history, parking=parking)
        result = draw(st.none() | PAYLOADS)
        return end(
            owner,
            claim,
            status=draw(STATUSES),
            result=result,
            delete_at=draw(st.none() | TIMES),
            is_dead=draw(st.booleans()),
            history=history,
        )

    @rule(id=IDS, due_at=TIMES, now=TIMES)
    def reschedule(self, id: str, due_at: int, now: int) -> None:
        self.both("reschedule", id, due_at=due_at, now=now)

    @rule(ids=st.lists(IDS, max_size=4), now=TIMES, delete_at=st.none() | TIMES)
    def cancel(self, ids: list[str], now: int, delete_at: int | None) -> None:
        self.both("cancel", ids, reason=f"at {now}", now=now, delete_at=delete_at)

    @rule(ids=st.lists(IDS, max_size=4))
    def delete(self, ids: list[str]) -> None:
        self.both("delete", ids, now=NOW, delete_at=NOW + 2)

    @rule(now=TIMES, limit=st.sampled_from([1, 100]), delete_at=st.none() | TIMES)
    def expire(self, now: int, limit: int, delete_at: int | None) -> None:
        memory, sqlite = (storage.expire(now=now, limit=limit, delete_at=delete_at) for storage in self.storages)
        assert sorted(memory) == sorted(sqlite)

    @rule(ids=st.lists(IDS, max_size=4), now=TIMES, with_dependents=st.booleans())
    def retry(self, ids: list[str], now: int, with_dependents: bool) -> None:
        self.both("retry", ids, now=now, with_dependents=with_dependents)

    @rule(ids=st.lists(IDS, max_size=4), now=TIMES)
    def pause(self, ids: list[str], now: int) -> None:
        self.both("pause", ids)

    @rule(ids=st.lists(IDS, max_size=4), now=TIMES)
    def resume(self, ids: list[str], now: int) -> None:
        self.both("resume", ids, now=now)

    @rule(queue=QUEUES, method=st.sampled_from(["pause_queue", "resume_queue"]))
    def pause_or_resume_queue(self, queue: str, method: str) -> None:
        self.both(method, queue)

    @rule(data=st.data(), kinds=st.lists(st.sampled_from(MessageKind), max_size=4))
    def report(self, data: st.DataObject, kinds: list[MessageKind]) -> None:
        some = [data.draw(st.sampled_from(self.claims)) for _ in kinds] if self.claims else []
        said = {MessageKind.VALUE: b"\xff", MessageKind.LOG: "é\0'", MessageKind.PROGRESS: 12.5}
        self.both(
            "report",
            [
                Report(claim.id, owner, claim.fence, kind, NOW, said[kind], None)
                for kind, (owner, claim) in zip(kinds, some, strict=False)
            ],
        )

    @rule(owner=st.integers(1, 4), now=TIMES)
    def heartbeat(self, owner: int, now: int) -> None:
        self.both("heartbeat", owner, now=now)

    @rule(ids=st.lists(IDS, max_size=4))
    def add_history(self, ids: list[str]) -> None:
        self.both("add_history", [line(id) for id in ids])

    @rule(now=TIMES)
    def purge(self, now: int) -> None:
        self.both("purge", now=now, limit=100)

    @rule(keep=st.integers(0, 2), limit=st.sampled_from([0, 100]))
    def trim(self, keep: int, limit: int) -> None:
        self.both("trim", keep=keep, limit=limit)

    @invariant()
    def both_hold_the_same(self) -> None:
        for record in self.same_records():
            self.both("attempts", record.id)
            self.both("relations", record.id)
            memory, sqlite = (storage.parents(record.id) for storage in self.storages)
            assert [(name, parent and parent.id) for name, parent in memory] == [
                (name, parent and parent.id) for name, parent in sqlite
            ]
            self.both("messages", record.id, after=0, limit=100)
        self.both("count", JobQuery())
        self.both("find", JobQuery(metadata=(("n", 1),), is_newest_first=True))
        self.both("count_purgeable", now=NOW)
        self.both("paused_queues")
        for key in ("k", "l"):
            self.both("find_unique", key)
        self.both("owners")
        for owner in self.owners:
            memory, sqlite = (sorted(storage.cancel_requests(owner)) for storage in self.storages)
            assert memory == sqlite

    def same_records(self) -> list[JobRecord]:
        """The records, which are equal.

        But where two parents end at once it is left open which of them is the reason, and so, when the dependent (and
        what depends on that) may be deleted. Such ones are taken out of both storages.
        """
        memory, sqlite = ({job.id: job for job in storage.find(JobQuery())} for storage in self.storages)
        assert memory.keys() == sqlite.keys()
        differing = {id for id in memory if memory[id] != sqlite[id]}
        for id in differing:
            reasons = {_because_of(found[id]) for found in (memory, sqlite)}
            assert len(reasons) == 2 or reasons <= differing, (memory[id], sqlite[id])
            assert _but_for_the_reason(memory[id]) == _but_for_the_reason(sqlite[id])
        if differing:
            gone = self.both("delete", sorted(differing), now=NOW, delete_at=None)
            if gone < len(differing):  # what depends on them needs them
                self.both("delete", sorted(memory), now=NOW, delete_at=None)
            return self.same_records()
        return list(memory.values())


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=40)
