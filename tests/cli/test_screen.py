"""The screen of `jobify top` is right at any size of the terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobify.cli.top.screen import Snapshot, Throughput, draw
from jobify.client.views import LimitView, QueueView, WorkerView
from jobify.client.wait_reasons import ClusterState
from jobify.model.clock import to_datetime
from jobify.model.public_status import PUBLIC_STATUSES
from jobify.model.records import JobRecord

NOW = 1_800_000_000_000_000
SECOND = 1_000_000


def job(number: int, *, progress: float | None = 40.0, is_cancel_requested: bool = False) -> JobRecord:
    blank = dict.fromkeys(JobRecord._fields)
    fields = {
        "id": f"job-{number}",
        "task": "pack",
        "status": "running",
        "started_at": NOW - number * SECOND,
        "progress": progress,
        "is_cancel_requested": is_cancel_requested,
    }
    return JobRecord(**{**blank, **fields})  # type: ignore[arg-type]


def snapshot(
    *, queues: int = 2, workers: int = 2, running: int = 3, at: int = NOW, done: int = 5, runs: int = 0
) -> Snapshot:
    now = to_datetime(NOW)
    owners = [
        WorkerView(n, "host", 100 + n, "worker", None, ("pack",), 4, now, now, is_alive=True, jobs=("job-0",))
        for n in range(workers)
    ]
    counts = {**dict.fromkeys(PUBLIC_STATUSES, 1), "complete": done}
    states = [QueueView(f"queue-{n}", False, counts, workers) for n in range(queues)]
    jobs = [job(n) for n in range(running)]
    return Snapshot(ClusterState(owners, frozenset(), at), states, jobs, runs)


def text(shown: Snapshot, *, width: int = 100, height: int = 40) -> str:
    return "\n".join(line.plain for line in draw(shown, [1.0, 2.0], name="shop.db", width=width, height=height))


@given(
    st.integers(1, 250),
    st.integers(1, 120),
    st.builds(snapshot, queues=st.integers(0, 60), workers=st.integers(0, 60), running=st.integers(0, 60)),
    st.lists(st.floats(0, 1e6), max_size=120),
)
def test_it_fits_any_terminal(width: int, height: int, shown: Snapshot, rates: list[float]) -> None:
    lines = draw(shown, rates, name="shop.db", width=width, height=height)
    assert 0 < len(lines) <= height
    assert max(line.cell_len for line in lines) <= width


def test_all_is_there_when_there_is_room() -> None:
    shown = text(snapshot())
    for part in ("queue-0", "queue-1", "100", "101", "job-0", "job-2", "40%", "jobs/s"):
        assert part in shown


def test_what_is_missing_is_counted() -> None:
    shown = text(snapshot(queues=3, workers=2, running=50), height=24)
    assert "queue-2" in shown
    assert "… and 4" in shown.splitlines()[-1]
    assert len(shown.splitlines()) == 24


def test_one_crowded_section_does_not_push_the_others_out() -> None:
    shown = text(snapshot(queues=80, workers=80, running=80), height=24)
    assert all(head in shown for head in ("QUEUE", "WORKER", "RUNNING TASK"))


def test_a_small_terminal_keeps_the_head() -> None:
    assert "jobify top" in text(snapshot(), width=40, height=3)
    assert "40%" in text(snapshot(), width=60)


def test_a_job_that_is_asked_to_stop_says_so() -> None:
    shown = snapshot(running=0)._replace(running=[job(1, progress=None, is_cancel_requested=True)])
    assert "cancellation requested" in text(shown)


@pytest.mark.promise("f7")
def test_stopped_schedules_are_at_the_top() -> None:
    rule = '{"expression": "* * * * *"}'
    stopped = [
        job(n)._replace(rule=rule, status="permanently_failed", is_dead=True, finished_at=NOW, error=f"Error: {n}\n!")
        for n in range(5)
    ]
    shown = text(snapshot()._replace(stopped=stopped)).splitlines()
    assert shown[3].startswith("schedule job-0 is stopped 0 ms ago: Error: 0")
    assert shown[6] == "… and 2 more stopped schedules"


def limit(name: str, waiting: int, *keys: tuple[object, int], **fields: object) -> LimitView:
    blank = {"key": None, "kind": "concurrency", "limit": 10, "per": 0.0, "burst": 0, "is_set": False, "active": 10}
    values = {**blank, "name": name, "waiting": waiting, **fields}
    of_keys = tuple(LimitView(**{**values, "key": key, "waiting": count}) for key, count in keys)  # type: ignore[arg-type]
    return LimitView(**values, keys=of_keys)  # type: ignore[arg-type]


def test_limits_that_hold_jobs_back_are_at_the_top() -> None:
    limits = [
        limit("openai", 214),
        limit("exports", 12, ("a", 5), (7, 4), (None, 2), ("d", 1), ("e", 0), limit=1),
        limit("api", 3, kind="rate", limit=100, per=60.0, burst=5, is_set=True),
        limit("mail", 2),
        limit("sms", 1),
    ]
    for width in (60, 80, 200):
        lines = text(snapshot()._replace(limits=limits), width=width).splitlines()
        assert max(map(len, lines)) <= width
        begin = next(number for number, line in enumerate(lines) if line.startswith("limit openai"))
        assert lines[begin : begin + 4] == [
            "limit openai 10/10, 214 waiting",
            'limit exports 1 each, 12 waiting: 5 "a", 4 7, 2 null, …',
            "limit api 100 / 60 s + 5 (set), 3 waiting",
            "… and 2 more limits that jobs wait for",
        ]
        assert any("queue-1" in line for line in lines[begin:])
    assert "waiting" not in text(snapshot())


def test_a_limit_of_a_long_name_is_shown_in_whole() -> None:
    name = "module.of.the.shop:synchronise_everything:concurrency:order.customer_id"
    shown = snapshot()._replace(limits=[limit(name, 5, ("x" * 90, 5), limit=0)])
    for width in (60, 80):
        lines = text(shown, width=width).splitlines()
        assert max(map(len, lines)) <= width
        assert f'limit{name}0each,5waiting:5"{"x" * 28}…' in "".join("".join(lines).split())


def test_a_narrow_terminal_shows_errors_in_whole_and_every_count() -> None:
    rule, error = (
        '{"expression": "* * * * *"}',
        "ValueError: the nightly report has no rows since the table was changed",
    )
    stopped = [job(1)._replace(rule=rule, status="permanently_failed", is_dead=True, finished_at=NOW, error=error)]
    shown = snapshot(workers=0)._replace(stopped=stopped)
    for width in (80, 40):
        said = text(shown, width=width)
        assert max(map(len, said.splitlines())) <= width
        assert error in " ".join(said.split())
        assert all(f"{word} " in said for word in PUBLIC_STATUSES)
    lines = [line.strip() for line in text(shown, width=40).splitlines()]
    where = lines.index("queue-0")
    assert lines[where + 1 : where + 3] == ["1 pending  1 running  1 failed  1 dead", "no worker serves this queue"]


def test_what_is_wrong_with_a_job_stands_below_it_where_there_is_no_room() -> None:
    gone = snapshot(running=0)._replace(running=[job(1, is_cancel_requested=True)])
    (line,) = [line for line in text(gone, width=100).splitlines() if "cancellation requested" in line]
    assert line.startswith("pack")
    lines = text(gone, width=30).splitlines()
    assert lines[lines.index("  cancellation requested") - 1].startswith("pack")


def test_throughput_is_what_ended_between_two_looks() -> None:
    throughput = Throughput()
    assert throughput.rates() == []
    throughput.record(snapshot(at=NOW, done=10))
    throughput.record(snapshot(at=NOW + 2 * SECOND, done=28, runs=4))
    throughput.record(snapshot(at=NOW + 3 * SECOND, done=0))  # deleted meanwhile
    assert throughput.rates() == [20.0, 0.0]
