"""Any sequence of calls: SQLite answers what the reference in memory answers, and both hold the same in the end."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from jobify.records import Claim, ClaimRequest, JobQuery, Lane, NewJob, Progress, Settlement
from jobify.storage import SQLiteStorage, Storage
from jobify.storage.memory import MemoryStorage
from jobify.testing.storage_contract.given import NOW, again, born, end, job, line

IDS = st.sampled_from(["a", "b", "c", "d", "é\0'"])
TASKS = st.sampled_from(["x", "y", "z"])
QUEUES = st.sampled_from(["q", "r"])
TIMES = st.integers(NOW - 3, NOW + 3)
STATUSES = st.sampled_from(["success", "failed", "timeout", "cancelled", "permanently_failed"])
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
        options=draw(st.sampled_from([None, "{}"])),
    )


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
        memory, sqlite = (getattr(storage, method)(*args, **kwargs) for storage in self.storages)
        assert memory == sqlite
        return memory

    @initialize()
    def enter(self) -> None:
        self.owners.append(self.both("register", now=NOW))

    @rule()
    def register(self) -> None:
        self.owners.append(self.both("register", now=NOW))

    @rule(data=st.data())
    def retire(self, data: st.DataObject) -> None:
        self.both("retire", data.draw(st.sampled_from(self.owners)))

    @rule(max_crashes=st.integers(1, 3), delete_at=st.none() | TIMES)
    def crash(self, max_crashes: int, delete_at: int | None) -> None:
        for storage in self.storages:
            storage.close()
            storage.open()
        self.owners.append(self.both("register", now=NOW))
        memory, sqlite = (
            storage.recover(now=NOW + 7, max_crashes=max_crashes, delete_at=delete_at) for storage in self.storages
        )
        assert sorted(memory) == sorted(sqlite)

    @rule(jobs=st.lists(waiting(), max_size=4))
    def insert(self, jobs: list[NewJob]) -> None:
        self.both("insert", jobs)

    @rule(data=st.data(), id=IDS, task=TASKS)
    def insert_born(self, data: st.DataObject, id: str, task: str) -> None:
        owner = data.draw(st.sampled_from(self.owners))
        new = born(id, owner, task=task)
        if self.both("insert", [new]) == [True]:
            self.claims.append((owner, new))

    @rule(new=waiting(), progress=st.none() | st.builds(Progress, st.integers(0, 9), st.integers(0, 9)))
    def put(self, new: NewJob, progress: Progress | None) -> None:
        self.both("put", new._replace(status="scheduled"), progress)

    @rule(data=st.data(), now=TIMES, limit=st.integers(0, 3), queues=st.sampled_from([None, ("q",), ("r", "q"), ()]))
    def claim(self, data: st.DataObject, now: int, limit: int, queues: tuple[str, ...] | None) -> None:
        owner = data.draw(st.sampled_from(self.owners))
        lanes = data.draw(st.sampled_from([(("x",),), (("x", "y"),), (("z",), ("y", "x")), (("x", "y", "z"),)]))
        request = ClaimRequest(owner, tuple(Lane(tasks, limit) for tasks in lanes), queues)
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
            return again(owner, claim, due_at=due_at, ready=due_at <= NOW, history=history)
        result = draw(st.none() | PAYLOADS)
        return end(
            owner, claim, status=draw(STATUSES), result=result, delete_at=draw(st.none() | TIMES), history=history
        )

    @rule(id=IDS, due_at=TIMES, now=TIMES)
    def move(self, id: str, due_at: int, now: int) -> None:
        self.both("move", id, due_at=due_at, now=now)

    @rule(ids=st.lists(IDS, max_size=4), now=TIMES, delete_at=st.none() | TIMES)
    def cancel(self, ids: list[str], now: int, delete_at: int | None) -> None:
        self.both("cancel", ids, reason=f"at {now}", now=now, delete_at=delete_at)

    @rule(ids=st.lists(IDS, max_size=4))
    def delete(self, ids: list[str]) -> None:
        self.both("delete", ids)

    @rule(ids=st.lists(IDS, max_size=4))
    def record(self, ids: list[str]) -> None:
        self.both("record", [line(id) for id in ids])

    @rule(now=TIMES)
    def purge(self, now: int) -> None:
        self.both("purge", now=now, limit=100)

    @rule(keep=st.integers(0, 2), limit=st.sampled_from([0, 100]))
    def trim(self, keep: int, limit: int) -> None:
        self.both("trim", keep=keep, limit=limit)

    @invariant()
    def both_hold_the_same(self) -> None:
        records = self.both("find", JobQuery())
        for record in records:
            self.both("attempts", record.id)
        self.both("count", JobQuery())
        self.both("owners")
        for owner in self.owners:
            memory, sqlite = (sorted(storage.cancel_requests(owner)) for storage in self.storages)
            assert memory == sqlite


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
