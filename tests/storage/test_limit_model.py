"""Any sequence of calls: all storages claim the same jobs, and none is ever left behind a gate that would admit it."""

from __future__ import annotations

import json
import sys
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from jobify.model.limit_gates import LimitDefinition, LimitState, SettledLimits
from jobify.model.records import BatchRule, Claim, ClaimRequest, JobQuery, JobRecord, NewJob, Settlement, TaskSlots
from jobify.storage import PostgresStorage, SQLiteStorage, Storage
from jobify.storage.memory import MemoryStorage
from jobify.testing.storage_contract.given import NOW, PROFILE, SECOND, again, end, job
from jobify.testing.storage_contract.limit_rows import keyed

pytestmark = pytest.mark.slow

IDS = st.sampled_from([f"j{number}" for number in range(12)])
TASKS = st.sampled_from(["x", "y"])
QUEUES = st.sampled_from(["q", "r"])
KEYS = st.sampled_from(["k", "l", None])
MAXIMA = st.integers(0, 3)
_schemas = count()


@st.composite
def limits(draw: st.DrawFn, name: str) -> LimitDefinition:
    key = draw(st.sampled_from([None, "user"]))
    if draw(st.booleans()):
        return LimitDefinition(name, "concurrency", draw(MAXIMA), key=key)
    return LimitDefinition(name, "rate", draw(MAXIMA), 3 * SECOND, draw(st.integers(0, 1)), key)


@st.composite
def definitions(draw: st.DrawFn) -> dict[str, list[LimitDefinition]]:
    made = {name: draw(limits(name)) for name in ("one", "two")}
    names = st.lists(st.sampled_from(["one", "two"]), unique=True)
    return {task: [made[name] for name in draw(names)] for task in draw(st.sets(TASKS, min_size=1))}


@st.composite
def waiting(draw: st.DrawFn, now: int) -> NewJob:
    due_at, id = now + draw(st.sampled_from([0, 0, 0, SECOND])), draw(IDS)
    return job(
        id,
        task=draw(TASKS),
        queue=draw(QUEUES),
        priority=draw(st.integers(0, 1)),
        due_at=due_at,
        ready=due_at <= now,
        rule=None if id == "j0" else draw(st.sampled_from([None, None, "{}"])),
        options=keyed(user=draw(KEYS), cost=draw(st.sampled_from([1, 1, 2]))) if draw(st.booleans()) else None,
        expires_at=draw(st.sampled_from([None, None, now + SECOND])),
        parents=() if id == "j0" else draw(st.sampled_from([(), (), ("j0",)])),
    )


def _is_no_later(given: int | None, exact: int | None) -> bool:
    """A database knows when a gate opens for a cost of 1, and finds out at a claim that nothing waits there any more:
    it may ask for one claim too many, and for none too late."""
    return exact is None or (given is not None and given <= exact)


class LimitModel(RuleBasedStateMachine):
    """Calls each storage in the same way. Time goes on, a second at a time."""

    server: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        path = Path(self._directory.name) / "jobs.db"
        self.storages: list[Storage] = [MemoryStorage(), SQLiteStorage(path, synchronous="normal")]
        if self.server is not None:
            self.storages.append(PostgresStorage(self.server, schema=f"model_{next(_schemas)}", notify="poll"))
        for storage in self.storages:
            storage.open()
        self.now = NOW
        self.owners: list[int] = []
        self.claims: list[tuple[int, Claim]] = []
        self.kept: list[tuple[int, Claim]] = []

    def teardown(self) -> None:
        if sys.exc_info()[0] is None and self.owners:
            self.everything_comes_to_its_end()
        for storage in self.storages:
            storage.close()
        self._directory.cleanup()

    def all(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call all; their answer, which is one."""
        first, *others = (getattr(storage, method)(*args, **kwargs) for storage in self.storages)
        for other in others:
            assert other == first
        return first

    @initialize(tasks=definitions())
    def begin(self, tasks: dict[str, list[LimitDefinition]]) -> None:
        self.owners = [self.all("register", PROFILE, now=NOW) for _ in range(2)]
        self.all("define_limits", tasks)

    # -- what runs -----------------------------------------------------------------------------------------------------

    @rule(
        number=st.integers(0, 1),
        limit=st.integers(0, 4),
        tasks=st.sampled_from([("x",), ("x", "y")]),
        queues=st.sampled_from([None, ("q",)]),
    )
    def claim(self, number: int, limit: int, tasks: tuple[str, ...], queues: tuple[str, ...] | None) -> None:
        owner = self.owners[number]
        request = ClaimRequest(owner, (TaskSlots(tasks, limit),), queues)
        is_for_all = limit > 4 and len(tasks) == 2 and queues is None  # else it learns less of others
        for _ in range(10):
            answers = [storage.claim(request, now=self.now) for storage in self.storages]
            for answer in answers[1:]:
                assert answer.claims == answers[0].claims, answers
                if is_for_all and not answer.has_more:
                    assert _is_no_later(answer.next_due_at, answers[0].next_due_at), answers
            self.claims += [(owner, found) for found in answers[0].claims]
            if answers[0].claims or not any(answer.has_more for answer in answers):
                return

    @rule(
        number=st.integers(0, 1),
        limit=st.integers(0, 3),
        batch=st.builds(BatchRule, st.integers(1, 3), st.sampled_from([0, SECOND]), st.sampled_from([None, "user"])),
        queues=st.sampled_from([None, ("q",)]),
    )
    def claim_batches(self, number: int, limit: int, batch: BatchRule, queues: tuple[str, ...] | None) -> None:
        owner = self.owners[number]
        request = ClaimRequest(owner, (TaskSlots(("x",), limit, batch), TaskSlots(("y",), 1)), queues)
        for _ in range(10):
            answers = [storage.claim(request, now=self.now) for storage in self.storages]
            for answer in answers[1:]:
                assert (answer.claims, answer.batches) == (answers[0].claims, answers[0].batches), answers
            self.claims += [(owner, found) for found in answers[0].claims]
            sizes = [len(one) for one in answers[0].batches]
            assert len(sizes) <= limit
            assert all(size <= batch.size for size in sizes)
            if answers[0].claims or not any(answer.has_more for answer in answers):
                return

    @rule(number=st.integers(0, 1))
    def claim_all(self, number: int) -> None:
        self.claim(number, 9, ("x", "y"), None)

    @rule(data=st.data(), closes=st.booleans())
    def settle(self, data: st.DataObject, closes: bool) -> None:
        some = data.draw(st.lists(st.sampled_from(self.claims), max_size=3)) if self.claims else []
        settlements = [self._settlement(data, owner, claim, closes=closes) for owner, claim in some]
        answers = [[bool(one) for one in storage.settle(settlements)] for storage in self.storages]
        assert all(answer == answers[0] for answer in answers)
        for (owner, claim), settlement in zip(some, settlements, strict=True):
            self.claims = [one for one in self.claims if one != (owner, claim)]
            if settlement.limits is not None and settlement.limits.is_kept:
                self.kept.append((owner, claim))

    def _settlement(self, data: st.DataObject, owner: int, claim: Claim, *, closes: bool) -> Settlement:
        its = SettledLimits(
            is_kept=claim.limits is LimitState.HELD and data.draw(st.booleans()),
            closed_until=self.now + 2 * SECOND if closes else None,
            options=keyed(user=data.draw(KEYS)) if claim.limits is LimitState.UNKEYED else None,
        )
        held = its if claim.limits else None
        if claim.limits is LimitState.UNKEYED or data.draw(st.booleans()):
            return again(owner, claim, attempt=0, due_at=self.now, ready=True, limits=held)
        return end(owner, claim, limits=held)

    @rule(data=st.data())
    def let_go(self, data: st.DataObject) -> None:
        if self.kept:
            owner, claim = one = data.draw(st.sampled_from(self.kept))
            self.kept.remove(one)
            for storage in self.storages:  # whether a job waits, it need not know for sure
                storage.let_go(claim.id, owner, claim.fence)

    @rule(number=st.integers(0, 1))
    def leave(self, number: int) -> None:
        owner = self.owners[number]
        self.all("deregister", owner)
        self.claims = [one for one in self.claims if one[0] != owner]
        self.owners[number] = self.all("register", PROFILE, now=self.now)

    # -- what waits ----------------------------------------------------------------------------------------------------

    @rule(data=st.data())
    def insert(self, data: st.DataObject) -> None:
        jobs = [data.draw(waiting(self.now)) for _ in range(data.draw(st.integers(1, 4)))]
        known = {record.id for record in self.storages[0].find(JobQuery())}
        self.all("insert", [new if set(new.parents) <= known else new._replace(parents=()) for new in jobs])

    @rule(data=st.data())
    def replace(self, data: st.DataObject) -> None:
        self.all("replace", data.draw(waiting(self.now))._replace(parents=()))

    @rule(id=IDS, later=st.sampled_from([0, SECOND]))
    def reschedule(self, id: str, later: int) -> None:
        self.all("reschedule", id, due_at=self.now + later, now=self.now)

    @rule(ids=st.lists(IDS, min_size=1, max_size=2))
    def cancel(self, ids: list[str]) -> None:
        self.all("cancel", ids, reason="x", now=self.now, delete_at=None)

    @rule(ids=st.lists(IDS, min_size=1, max_size=2))
    def delete(self, ids: list[str]) -> None:
        self.all("delete", ids, now=self.now, delete_at=None)

    @rule(ids=st.lists(IDS, min_size=1, max_size=2))
    def retry(self, ids: list[str]) -> None:
        self.all("retry", ids, now=self.now)

    @rule(ids=st.lists(IDS, min_size=1, max_size=2), is_pause=st.booleans())
    def pause_or_resume(self, ids: list[str], is_pause: bool) -> None:
        self.all("pause", ids) if is_pause else self.all("resume", ids, now=self.now)

    @rule(queue=QUEUES, method=st.sampled_from(["pause_queue", "resume_queue"]))
    def pause_or_resume_queue(self, queue: str, method: str) -> None:
        self.all(method, queue)

    @rule(later=st.sampled_from([0, SECOND, SECOND, 5 * SECOND]))
    def time_goes_on(self, later: int) -> None:
        self.now += later
        expired = [sorted(storage.expire(now=self.now, limit=99, delete_at=None)) for storage in self.storages]
        assert all(found == expired[0] for found in expired)

    # -- limits --------------------------------------------------------------------------------------------------------

    @rule(tasks=definitions())
    def define(self, tasks: dict[str, list[LimitDefinition]]) -> None:
        self.all("define_limits", tasks)

    @rule(
        name=st.sampled_from(["one", "two"]),
        key=st.sampled_from([None, None, '"k"']),
        maximum=st.sampled_from([None, 0, 1, 3]),
    )
    def set_limit(self, name: str, key: str | None, maximum: int | None) -> None:
        self.all("set_limit", name, key=key, maximum=maximum)

    @rule(data=st.data())
    def place(self, data: st.DataObject) -> None:
        jobs = [data.draw(waiting(self.now))._replace(parents=()) for _ in range(2)]
        for storage in self.storages:
            with storage.transaction():
                stored = [new for new, is_new in zip(jobs, storage.insert(jobs), strict=True) if is_new]
                storage.take_places(stored, now=self.now)

    # -- what holds at any time ----------------------------------------------------------------------------------------

    @invariant()
    def all_hold_the_same(self) -> None:
        first, *others = ({record.id: record for record in storage.find(JobQuery())} for storage in self.storages)
        for other in others:
            assert _comparable(other) == _comparable(first)
        waits = [{id: wait[:4] for id, wait in storage.limit_waits(sorted(first)).items()} for storage in self.storages]
        assert all(found == waits[0] for found in waits), waits
        found = [storage.limits() for storage in self.storages]
        assert all(one == found[0] for one in found), found

    @invariant()
    def nothing_is_forgotten(self) -> None:
        for storage in self.storages:
            records = storage.find(JobQuery())
            lines = storage.limit_waits([record.id for record in records])
            assert {record.id for record in records if record.waits_for_limit} == lines.keys()
            assert all(record.blockers >= (record.id in lines) for record in records)

    @invariant()
    def what_is_held_runs(self) -> None:
        running = [owner for owner, claim in self.claims if claim.limits is LimitState.HELD]
        if not (running or self.kept):
            return
        for storage in self.storages:
            assert sum(limit.active for limit in storage.limits()) <= 2 * (len(running) + len(self.kept))

    def everything_comes_to_its_end(self) -> None:
        """All that waits runs and ends as soon as nothing forbids it; then nothing is held, and no line has entries."""
        ids = sorted(record.id for record in self.storages[0].find(JobQuery()))
        self.all("resume", ids, now=self.now)
        for queue in ("q", "r"):
            self.all("resume_queue", queue)
        for name in ("one", "two"):
            for key in (None, '"k"'):
                self.all("set_limit", name, key=key, maximum=1)
        for owner, claim in self.kept:
            for storage in self.storages:
                storage.let_go(claim.id, owner, claim.fence)
        for owner, claim in self.claims:
            for storage in self.storages:
                storage.settle([end(owner, claim, limits=SettledLimits() if claim.limits else None)])
        for storage in self.storages:
            self.now += self.finish(storage)
            left = [record for record in storage.find(JobQuery()) if record.status in ("scheduled", "running")]
            assert left == []
            assert [(limit.active, limit.waiting) for limit in storage.limits() if limit.active or limit.waiting] == []

    def finish(self, storage: Storage) -> int:
        """Claim and settle until nothing is left; how much time that took."""
        now, owner = self.now, self.owners[0]
        for _ in range(200):
            answer = storage.claim(ClaimRequest(owner, (TaskSlots(("x", "y"), 9),)), now=now)
            for claim in answer.claims:
                if claim.limits is LimitState.UNKEYED:
                    completed = SettledLimits(options=keyed(user=None))
                    storage.settle([again(owner, claim, attempt=0, due_at=now, ready=True, limits=completed)])
                else:
                    storage.settle([end(owner, claim, limits=SettledLimits() if claim.limits else None)])
            if not (answer.claims or answer.has_more):
                if answer.next_due_at is None:
                    break
                now = max(now + 1, answer.next_due_at)
        return now - self.now


def _comparable(records: dict[str, JobRecord]) -> dict[str, Any]:
    return {id: (record.status, record.blockers, record.attempt, record.due_at, record.waits_for_limit, _keys(record))
            for id, record in records.items()}  # fmt: skip


def _keys(record: JobRecord) -> Any:
    return json.loads(record.options or "{}").get("limit_keys")


def test_memory_and_sqlite_are_alike() -> None:
    # The same each time: rarely, a database finds the entries of cancelled jobs first and takes a claim more.
    run_state_machine_as_test(LimitModel, settings=settings(max_examples=60, stateful_step_count=40, derandomize=True))


def test_postgres_is_like_them(postgres_url: str) -> None:
    class WithServer(LimitModel):
        server = postgres_url

    healthy = [HealthCheck.too_slow]
    run_state_machine_as_test(
        WithServer,
        settings=settings(max_examples=12, stateful_step_count=40, derandomize=True, suppress_health_check=healthy),
    )
