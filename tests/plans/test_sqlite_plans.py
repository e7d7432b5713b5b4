"""SQLite's plan for every statement: nothing that is called often may read a table from end to end."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from jobify.model.records import JobQuery
from jobify.storage.sqlite import statements
from jobify.storage.sqlite.queries import filters_of, page_of
from jobify.storage.sqlite.schema import migrations, split
from jobify.storage.sqlite.settlements import IF_PLAIN
from jobify.storage.sqlite.statements import sql
from jobify.storage.sqlite.table_names import PREFIX, PrefixedConnection

FIELDS: dict[str, Any] = {
    "rows": (4, 19),
    "ids": 4,
    "tasks": 4,
    "in_queues": "AND pairs.queue IN (?, ?)",
    "filters": "1",
    "order": "id",
    "after": "id > ?",
    "if_plain": IF_PLAIN,
}
WIDTHS = {
    "settle": 16,
    "add_history": 10,
    "take": 2,
    "taken": 2,
    "valid_claims": 3,
    "add_edges": 4,
    "block": 2,
    "cancel_dependents": 5,
    "freeing": 1,
    "revive": 3,
    "close_barriers": 2,
    "reopen": 2,
    "change_cause": 3,
    "reporting": 3,
    "progress": 2,
    "publish": 7,
    "add_suspects": 8,
    "gates_of_keys": 2,
    "add_gates": 2,
    "change_gates": 7,
    "hold_limits": 5,
    "holders_of_claims": 3,
    "change_options": 2,
    "refuse": 2,
    "hold_back": 2,
    "add_waiters": 3,
    "add_lanes": 2,
    "first_waiters": 3,
    "add_task_limits": 3,
    "define_limits": 8,
}
OTHERS = {
    "next_apart": {"in_queues": "AND jobs.queue IN (?, ?)"},
    "pick_apart": {"in_queues": "AND jobs.queue IN (?, ?)"},
    "pick_parked": {"in_queues": "AND jobs.queue IN (?, ?)"},
}
"""Fields of which a statement has its own."""

SCANS = {
    # An answer about everything reads everything.
    "count": ["SCAN jobs"],
    "find": ["SCAN jobs USING INDEX sqlite_autoindex_jobs_1"],
    "find_live": [
        "SCAN jobs USING INDEX jobs_live",
        "SCAN jobs USING INDEX jobs_ready",
        "SCAN jobs USING INDEX jobs_blocked",
        "SCAN jobs USING INDEX jobs_running",
    ],
    "count_unsorted": ["SCAN jobs USING INDEX jobs_ready", "SCAN jobs USING INDEX jobs_blocked"],
    "find_running": ["SCAN jobs USING INDEX jobs_running"],
    "find_unsuccessful": ["SCAN jobs USING INDEX jobs_unsuccessful"],
    "count_live": [
        "SCAN jobs USING INDEX jobs_ready",
        "SCAN jobs USING INDEX jobs_staged",
        "SCAN jobs USING INDEX jobs_blocked",
        "SCAN jobs USING INDEX jobs_running",
    ],
    "count_running": ["SCAN jobs USING INDEX jobs_running"],
    "count_unsuccessful": ["SCAN jobs USING INDEX jobs_unsuccessful"],
    # The first entry of an index.
    "pick": ["SCAN jobs USING INDEX jobs_ready", "SCAN jobs USING INDEX jobs_parked"],
    "batch_candidates": ["SCAN jobs USING INDEX jobs_ready", "SCAN jobs USING INDEX jobs_parked"],
    "passed_over": ["SCAN jobs USING INDEX jobs_parked"],
    # All parked calls, which are few.
    "parked_calls": ["SCAN jobs USING INDEX jobs_parked"],
    # All schedules, which are few.
    "shift_delays": ["SCAN jobs USING INDEX jobs_live"],
    "mend_delays": ["SCAN jobs USING INDEX jobs_staged"],
    "stopped_schedules": ["SCAN jobs USING INDEX jobs_schedules"],
    "trim": ["SCAN jobs USING INDEX jobs_schedules"],
    "trim_messages": ["SCAN jobs USING INDEX jobs_schedules"],
}
"""Which scans of the table of jobs are meant."""

JOBS = "jobs|held|head|later|child|children|parents|heirs|other"
"""The names that the table of jobs has in statements."""


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    for script in migrations():
        connection.executescript(script)
    connection.create_function("claim_lost", 0, lambda: None)
    yield connection
    connection.close()


def _plan(connection: sqlite3.Connection, name: str, **fields: Any) -> list[str]:
    wanted = {field for field in FIELDS if f"{{{field}}}" in statements._STATEMENTS[name]}
    values = {**FIELDS, "rows": (4, WIDTHS.get(name, 19)), **OTHERS.get(name, {}), **fields}
    text = sql(name, **{field: values[field] for field in wanted})
    count = max([int(number) for number in re.findall(r"\?(\d+)", text)], default=0)
    anonymous = len(re.findall(r"\?(?!\d)", text))
    rows = connection.execute(f"EXPLAIN QUERY PLAN {text}", [None] * (count + anonymous)).fetchall()
    # Some releases see that a partial index says all that is asked of the table, others look at the row to be sure.
    return [detail.replace("COVERING INDEX", "INDEX") for *_, detail in rows]


NAMES = sorted(
    set(statements._STATEMENTS)
    - {"record_columns", "claim_columns", "gate_columns", "has_metadata", "merged_jobs", "needing"}
)


@pytest.mark.parametrize("name", NAMES)
def test_jobs_are_searched_not_scanned(connection: sqlite3.Connection, name: str) -> None:
    plan = _plan(connection, name)
    scans = [step for step in plan if re.match(rf"SCAN ({JOBS})\b", step)]
    assert scans == SCANS.get(name, [])


@pytest.fixture
def prefixed_connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", factory=PrefixedConnection)
    for script in migrations():
        for statement in split(script):
            connection.execute(statement)
    connection.create_function("claim_lost", 0, lambda: None)
    yield connection
    connection.close()


@pytest.mark.parametrize("name", NAMES)
def test_tables_with_a_prefix_are_found_by_the_same_plan(
    connection: sqlite3.Connection, prefixed_connection: sqlite3.Connection, name: str
) -> None:
    with_prefix = [step.replace(PREFIX, "") for step in _plan(prefixed_connection, name)]
    assert with_prefix == _plan(connection, name)


@pytest.mark.parametrize("name", NAMES)
def test_what_belongs_to_jobs_is_searched_not_scanned(connection: sqlite3.Connection, name: str) -> None:
    belongings = r"SCAN (attempts|kept|dependencies|messages)\b"
    assert not [step for step in _plan(connection, name) if re.match(belongings, step)]


_LIMIT_SCANS = {
    # All tasks and queues that wait, at a start.
    "misplaced_waiters": ["lanes"],
    # All tasks and queues that wait, for a job that several limits may refuse.
    "count_others": ["lanes"],
    # All that runs under a limit.
    "orphaned_holders": ["limit_holders"],
    # All that runs under a limit, after a process died.
    "holders_of_owners": ["limit_holders"],
    # All limits, after a change of the clock; the gates of those that are rates are searched.
    "shift_gates": ["limits"],
}


@pytest.mark.parametrize("name", NAMES)
def test_what_waits_for_limits_is_searched_not_scanned(connection: sqlite3.Connection, name: str) -> None:
    scans = [
        re.match(r"SCAN (limits|gates|lanes|waiter|limit_\w+)(?: USING|$)", step) for step in _plan(connection, name)
    ]
    assert [scan[1] for scan in scans if scan] == _LIMIT_SCANS.get(name, [])


@pytest.mark.parametrize("name", ["first_waiters", "open_lanes"])
def test_those_that_wait_for_limits_are_found_in_order(connection: sqlite3.Connection, name: str) -> None:
    assert not [step for step in _plan(connection, name) if "ORDER BY" in step]


@pytest.mark.parametrize(
    "name",
    [
        "batch_candidates",
        "pick",
        "promote",
        "purge",
        "purgeable",
        "expired",
        "trim",
        "trim_messages",
        "find",
        "find_live_among",
        "attempts",
        "messages",
    ],
)
def test_an_index_gives_the_order(connection: sqlite3.Connection, name: str) -> None:
    assert not [step for step in _plan(connection, name) if "ORDER BY" in step]


@pytest.mark.parametrize("name", ["pick", "batch_candidates"])
def test_a_claim_jumps_through_the_index_of_ready_jobs(connection: sqlite3.Connection, name: str) -> None:
    index = "SEARCH jobs USING INDEX jobs_ready"
    jumps = [step for step in _plan(connection, name) if step.startswith(index)]
    assert jumps == [
        f"{index} (queue=? AND task>?)",
        f"{index} (queue>?)",
        f"{index} (queue=? AND task=?)",
        f"{index} (queue=? AND task=? AND priority=? AND due_at=? AND rowid>?)",
        f"{index} (queue=? AND task=? AND priority=? AND due_at>?)",
        f"{index} (queue=? AND task=? AND priority<?)",
    ]


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("promote", "jobs_staged"),
        ("purge", "jobs_outdated"),
        ("purgeable", "jobs_outdated"),
        ("purgeable", "dependencies_of_parent"),
        ("count_purgeable", "jobs_outdated"),
        ("count_purgeable", "dependencies_of_parent"),
        ("expired", "jobs_expiring"),
        ("keys_taken", "jobs_unique"),
        ("find_unique", "jobs_unique"),
        ("retry", "jobs_unique"),
        ("unblock", "dependencies_of_parent"),
        ("freeing", "dependencies_of_parent"),
        ("dependents", "dependencies_of_parent"),
        ("dependents", "dependencies_of_child"),
        ("close_dependencies", "dependencies_of_parent"),
        ("unkeep", "dependencies_of_child"),
        ("forget_parents", "dependencies_of_child"),
        ("forget_cause", "jobs_fallen"),
        ("cancelled_for", "jobs_fallen"),
        ("unkeep", "jobs_fallen"),
        ("needs", "dependencies_of_parent"),
        ("parents", "dependencies_of_child"),
        ("relations", "dependencies_of_parent"),
        ("relations", "dependencies_of_child"),
        ("reporting", "sqlite_autoindex_jobs_1"),
        ("cancel_requests", "jobs_cancelling"),
        ("held_by_owners", "jobs_running"),
        ("release", "jobs_running"),
        ("next_apart", "suspects_apart"),
        ("pick_apart", "suspects_apart"),
        ("pick", "suspects_apart"),
        ("batch_candidates", "suspects_apart"),
        ("holders_of_batches", "limit_holders_of_batch"),
        ("attempts", "attempts_of_job"),
        ("trim", "attempts_of_job"),
        ("settle", "sqlite_autoindex_jobs_1"),
        ("valid_claims", "sqlite_autoindex_jobs_1"),
        ("get", "sqlite_autoindex_jobs_1"),
    ],
)
def test_each_question_has_its_index(connection: sqlite3.Connection, name: str, index: str) -> None:
    assert [step for step in _plan(connection, name) if re.search(rf"INDEX {index}\b", step)]


def test_schedules_are_found_among_any_number_of_jobs(connection: sqlite3.Connection) -> None:
    plan = _plan(connection, "find", filters="1 AND rule IS NOT NULL")
    assert "SCAN jobs USING INDEX jobs_schedules" in plan


@pytest.mark.parametrize("order", ["id", "id DESC"])
@pytest.mark.parametrize("name", ["find", "find_live_among", "find_unsuccessful"])
def test_an_index_gives_either_order(connection: sqlite3.Connection, name: str, order: str) -> None:
    filters = filters_of(JobQuery(statuses=("failed",), is_dead=True))[0] if name == "find_unsuccessful" else "1"
    assert not [step for step in _plan(connection, name, order=order, filters=filters) if "ORDER BY" in step]


def test_only_the_jobs_of_no_list_are_sorted(connection: sqlite3.Connection) -> None:
    filters, _ = page_of(JobQuery(statuses=("scheduled",), tasks=("task",), queues=("default",), after_id="x"))
    plan = _plan(connection, "find_live", filters=filters)
    assert len([step for step in plan if "ORDER BY" in step]) == 1
    assert "SEARCH jobs USING INDEX jobs_live (id>?)" in plan
    for index in ("jobs_ready", "jobs_blocked"):
        assert f"SEARCH jobs USING INDEX {index} (queue=? AND task=?)" in plan


def test_one_status_is_found_and_counted_among_the_unsuccessful(connection: sqlite3.Connection) -> None:
    filters, _ = page_of(JobQuery(statuses=("failed",), after_id="x"))
    index = "USING INDEX jobs_unsuccessful"
    assert f"SEARCH jobs {index} (status=? AND id>?)" in _plan(connection, "find_unsuccessful", filters=filters)
    filters, _ = filters_of(JobQuery(statuses=("failed", "timeout")))
    assert f"SEARCH jobs {index} (status=?)" in _plan(connection, "count_unsuccessful", filters=filters)


def test_what_an_owner_runs_is_found_by_the_owner(connection: sqlite3.Connection) -> None:
    filters, _ = filters_of(JobQuery(owner=1))
    for name in ("find_running", "count_running"):
        assert "SEARCH jobs USING INDEX jobs_running (owner=?)" in _plan(connection, name, filters=filters)


def test_a_long_history_is_cut_without_reading_what_is_kept(connection: sqlite3.Connection) -> None:
    searches = [step for step in _plan(connection, "trim") if "attempts_of_job" in step]
    index = "USING INDEX attempts_of_job"
    assert searches == [f"SEARCH attempts {index} (job_id=? AND rowid<?)", f"SEARCH kept {index} (job_id=?)"]
