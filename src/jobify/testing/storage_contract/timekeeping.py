"""times: what a change of the clock means to rows."""

from __future__ import annotations

import pytest

from jobify.model.limit_gates import SettledLimits
from jobify.model.records import Claim, JobRecord, Progress, Settlement
from jobify.storage.base import Storage
from jobify.storage.timekeeping import ClockState, Moved, WaitingSchedule, WrongEnds
from jobify.testing.rows import NOW, SECOND, after, again, claim, claim_once, claimed, end, job, one, running
from jobify.testing.storage_contract.given import StorageCase, undone
from jobify.testing.storage_contract.limit_rows import at_once, found_ids, rate

__all__ = ("TimekeepingContract",)

LATER = NOW + 600 * SECOND
HOUR = 3600 * SECOND


def shifted(storage: Storage, id: str, change: int = HOUR, *, since: int = NOW + HOUR) -> JobRecord:
    """The row, after the clock was set from ``NOW + SECOND`` by ``change``."""
    storage.times.shift(change, since=since, now=since + SECOND)
    return one(storage, id)


def retried_at(storage: Storage, owner: int, found: Claim, due_at: int, offset_at: int) -> None:
    settlement: Settlement = again(owner, found, ready=False, due_at=due_at, offset_at=offset_at, attempt=1)
    assert any(storage.settle([settlement]))


class TimekeepingContract(StorageCase):
    # -- what is known of the clock ------------------------------------------------------------------------------------

    def test_what_is_known_of_the_clock_is_kept(self, storage: Storage) -> None:
        assert storage.times.clock_state() == ClockState(0, None, None)
        for state in (ClockState(-5, NOW, NOW + 1), ClockState(7, NOW, None)):
            storage.times.keep_clock_state(state)
            assert storage.times.clock_state() == state

    def test_a_block_that_fails_has_learned_nothing(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a", due_at=LATER, offset_at=NOW)])
        before = one(storage, "a")

        def learn() -> None:
            storage.times.shift(HOUR, since=0, now=0)
            storage.times.keep_clock_state(ClockState(1, 2, 3))
            assert storage.times.clock_state() == ClockState(1, 2, 3)

        undone(storage, learn)
        assert one(storage, "a") == before
        assert storage.times.clock_state().changes == 0

    # -- shift ---------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("change", [HOUR, -HOUR])
    def test_a_delay_moves_along(self, storage: Storage, owner: int, change: int) -> None:
        storage.insert([job("a", due_at=LATER, offset_at=NOW)])
        row = shifted(storage, "a", change, since=NOW + change)
        assert (row.due_at, row.offset_at, row.fence) == (LATER + change, NOW + change, 1)
        assert claim(storage, owner, now=LATER + change - 1) == []
        assert [found.id for found in claim(storage, owner, now=LATER + change)] == ["a"]

    def test_a_time_of_the_clock_does_not(self, storage: Storage, owner: int) -> None:
        storage.insert(
            [
                job("at", due_at=LATER),
                job("cron", due_at=LATER, offset_at=LATER, rule="{}"),
                job("ready", offset_at=NOW - 5),
                running("runs", owner, due_at=LATER, offset_at=NOW),
            ]
        )
        before = [one(storage, id) for id in ("at", "cron", "ready", "runs")]
        storage.times.shift(HOUR, since=0, now=0)
        assert [one(storage, id) for id in ("at", "cron", "ready", "runs")] == before

    def test_what_was_written_after_the_change_does_not(self, storage: Storage, owner: int) -> None:
        storage.insert([job("new", due_at=LATER, offset_at=NOW), job("old", due_at=LATER, offset_at=NOW - 1)])
        storage.times.shift(HOUR, since=NOW, now=NOW)
        assert (one(storage, "new").due_at, one(storage, "old").due_at) == (LATER, LATER + HOUR)

    def test_the_wait_of_a_blocked_job_moves_along(self, storage: Storage, owner: int) -> None:
        storage.insert([job("parent", due_at=LATER), after("child", "parent", due_at=LATER, offset_at=NOW)])
        assert shifted(storage, "child").due_at == LATER + HOUR

    def test_the_wait_for_a_retry_moves_along(self, storage: Storage, owner: int) -> None:
        retried_at(storage, owner, claimed(storage, owner, "job"), LATER, NOW)
        retried_at(storage, owner, claimed(storage, owner, "run", rule="{}"), LATER, NOW)
        assert (shifted(storage, "job").due_at, one(storage, "job").offset_at) == (LATER + HOUR, NOW + HOUR)
        assert (one(storage, "run").due_at, one(storage, "run").offset_at) == (LATER + HOUR, NOW)
        storage.times.shift(-10 * HOUR, since=0, now=0)
        storage.times.shift(9 * HOUR, since=0, now=0)
        assert one(storage, "run").due_at == LATER

    def test_an_expiry_in_seconds_moves_along(self, storage: Storage, owner: int) -> None:
        expiry = LATER
        storage.insert(
            [
                job("elapsed", expires_at=expiry, options='{"expires":600.0}'),
                job("clock", expires_at=expiry, options='{"metadata":{"expires":1}}'),
                job("plain", expires_at=expiry),
                job("broken", expires_at=expiry, options="{"),
                job("new", expires_at=expiry, options='{"expires":600.0}', created_at=NOW + HOUR),
            ]
        )
        storage.times.shift(HOUR, since=NOW + HOUR, now=NOW + HOUR)
        assert one(storage, "elapsed").expires_at == expiry + HOUR
        assert {one(storage, id).expires_at for id in ("clock", "plain", "broken", "new")} == {expiry}
        assert [one.id for one in storage.expire(now=expiry, limit=9, delete_at=None)] != ["elapsed"]

    def test_the_times_of_a_rate_move_along(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [rate(1, per=60)], "new": [rate(1, per=60, name="new")]})
        storage.insert([job("a"), job("b"), job("c", task="new"), job("d", task="new")])
        assert found_ids(claim(storage, owner)) == ["a"]
        storage.times.shift(-HOUR, since=NOW - HOUR, now=NOW - HOUR)
        assert found_ids(claim(storage, owner, now=NOW - HOUR + 59 * SECOND)) == []
        assert found_ids(claim(storage, owner, now=NOW - HOUR + 60 * SECOND)) == ["b"]
        assert found_ids(claim(storage, owner, tasks=("new",))) == ["c"]
        storage.times.shift(-HOUR, since=NOW, now=NOW)  # it has started after the change
        assert claim_once(storage, owner, tasks=("new",), now=NOW).next_due_at == NOW + 60 * SECOND

    def test_a_rate_that_is_closed_stays_closed_as_long(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [rate(9, per=1)]})
        found = claimed(storage, owner, "a")
        storage.settle([again(owner, found, limits=SettledLimits(closed_until=LATER))])
        storage.times.shift(HOUR, since=NOW + HOUR, now=NOW + HOUR)
        assert claim(storage, owner, now=LATER + HOUR - 1) == []
        assert found_ids(claim(storage, owner, now=LATER + HOUR)) == ["a"]

    def test_what_waits_for_a_limit_is_not_lost_when_its_times_move(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(0)]})
        storage.insert(
            [
                job("expires", expires_at=LATER, options='{"expires":600.0}'),
                job("cron", due_at=NOW, offset_at=NOW, rule="{}"),
            ]
        )
        assert claim(storage, owner) == []
        storage.times.shift(-HOUR, since=NOW - HOUR, now=NOW - HOUR)
        schedule = one(storage, "cron")
        moved = Moved("cron", schedule.fence, due_at=NOW - HOUR, offset_at=NOW - HOUR)
        assert storage.times.move_schedules([moved], now=NOW - HOUR) == 1
        assert [one(storage, id).blockers for id in ("expires", "cron")] == [0, 0]
        assert claim(storage, owner, now=NOW) == []
        storage.set_limit("limit", key=None, maximum=2)
        assert sorted(found_ids(claim(storage, owner, now=NOW))) == ["cron", "expires"]

    def test_a_delay_that_waits_for_the_end_of_a_run_moves_along(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a")
        storage.replace(job("a", due_at=LATER, offset_at=NOW), Progress(0, 0))
        storage.times.shift(HOUR, since=NOW + HOUR, now=NOW + HOUR)
        storage.settle([end(owner, found)])
        assert (one(storage, "a").due_at, one(storage, "a").offset_at) == (LATER + HOUR, NOW + HOUR)

    # -- schedules -----------------------------------------------------------------------------------------------------

    def test_waiting_schedules_come_in_pages(self, storage: Storage, owner: int) -> None:
        ids = [f"{number}" for number in range(5)]
        storage.insert([job(id, rule="{}", due_at=LATER, offset_at=LATER) for id in ids])
        storage.insert([job("due", rule="{}", due_at=NOW + 1), job("once", due_at=LATER)])
        storage.insert([running("runs", owner, rule="{}", due_at=LATER)])
        storage.pause(["3"])
        found = storage.times.waiting_schedules(due_after=NOW + 1, after="0", limit=3)
        assert found == [WaitingSchedule(id, 0, "{}", LATER, LATER, None, 0) for id in ("1", "2", "3")]
        assert [one.id for one in storage.times.waiting_schedules(due_after=NOW + 1, after="3", limit=3)] == ["4"]
        some = storage.times.schedules(["due", "once", "runs", "2", "missing"])
        assert sorted(one.id for one in some) == ["2", "due"]

    def test_a_schedule_gets_new_times_if_it_is_as_it_was_seen(self, storage: Storage, owner: int) -> None:
        storage.insert([job(id, rule="{}", due_at=LATER, offset_at=LATER) for id in ("a", "b")])
        storage.insert([running("runs", owner, rule="{}")])
        moves = [
            Moved("a", 0, NOW, NOW),
            Moved("b", 5, NOW, NOW),
            Moved("runs", 1, LATER, LATER),
            Moved("missing", 0, NOW, NOW),
        ]
        assert storage.times.move_schedules(moves, now=NOW) == 1
        row = one(storage, "a")
        assert (row.due_at, row.offset_at, row.ready, row.fence) == (NOW, NOW, True, 1)
        assert [found.id for found in claim(storage, owner)] == ["a"]
        assert one(storage, "b").due_at == LATER
        assert storage.times.move_schedules([], now=NOW) == 0

    # -- what a wrong clock has left behind ----------------------------------------------------------------------------

    def test_delays_that_were_counted_from_the_future_are_counted_from_now(self, storage: Storage, owner: int) -> None:
        future = NOW + 1000 * HOUR
        storage.insert(
            [
                job("ahead", due_at=future + 60 * SECOND, offset_at=future),
                job("right", due_at=future, offset_at=NOW),
                job("at", due_at=future),
                job("cron", due_at=future, offset_at=future, rule="{}"),
            ]
        )
        assert storage.times.mend(now=NOW, until=NOW + SECOND, limit=100) == 1
        assert (one(storage, "ahead").due_at, one(storage, "ahead").offset_at) == (NOW + 60 * SECOND, NOW)
        assert {one(storage, id).due_at for id in ("right", "at", "cron")} == {future}
        assert storage.times.mend(now=NOW, until=NOW + SECOND, limit=100) == 0

    def test_what_ended_in_the_future_is_kept_as_long_as_what_ends_now(self, storage: Storage, owner: int) -> None:
        future = NOW + 1000 * HOUR
        for id, ended_at, delete_at in (
            ("ahead", future, future + HOUR),
            ("right", NOW, future),
            ("kept", future, None),
        ):
            found = claimed(storage, owner, id)
            storage.settle([end(owner, found, finished_at=ended_at, delete_at=delete_at)])
        assert storage.times.mend(now=NOW, until=NOW + SECOND, limit=100) == 1
        row = one(storage, "ahead")
        assert (row.finished_at, row.delete_at) == (future, NOW + HOUR)
        assert (one(storage, "right").delete_at, one(storage, "kept").delete_at) == (future, None)
        assert storage.purge(now=NOW + HOUR, limit=10) == 1

    def test_what_ended_by_a_clock_that_was_behind_is_kept_longer(self, storage: Storage, owner: int) -> None:
        behind = WrongEnds(NOW, NOW + SECOND, 1000 * HOUR)
        for id, ended_at, delete_at in (
            ("before", NOW - 1, NOW + HOUR),
            ("first", NOW, NOW + HOUR),
            ("last", NOW + SECOND, NOW + SECOND + 1000 * HOUR),
            ("after", NOW + SECOND + 1, NOW + 2 * HOUR),
            ("long", NOW, NOW + SECOND + 1000 * HOUR + 1),
            ("forever", NOW, None),
        ):
            found = claimed(storage, owner, id)
            storage.settle([end(owner, found, finished_at=ended_at, delete_at=delete_at)])
        assert [storage.times.keep_ended(behind, limit=1) for _ in range(3)] == [1, 1, 0]
        assert one(storage, "first").delete_at == NOW + 1001 * HOUR
        assert one(storage, "last").delete_at == NOW + SECOND + 2000 * HOUR
        assert one(storage, "first").finished_at == NOW
        assert one(storage, "forever").delete_at is None
        assert storage.purge(now=NOW + 1000 * HOUR, limit=10) == 2

    def test_only_the_farthest_are_considered(self, storage: Storage, owner: int) -> None:
        future = NOW + 1000 * HOUR
        storage.insert([job(f"{number}", due_at=future + number, offset_at=future) for number in range(5)])
        assert storage.times.mend(now=NOW, until=NOW, limit=2) == 2
        assert [one(storage, f"{number}").offset_at == NOW for number in range(5)] == [False] * 3 + [True] * 2
