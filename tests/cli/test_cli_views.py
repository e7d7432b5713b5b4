"""What people see: terminals of 80 columns and fewer, lists in which the error is in sight, `jobs show`."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cli_shop import RULE, SECOND, Shop, lines_of
from jobify import Jobify
from jobify.cli.jobs.details import folded
from jobify.cli.layout import lay_out, wrapped
from jobify.cli.output import Column
from jobify.exceptions import PayloadError
from jobify.model.records import AttemptRecord, ClaimRequest, MessageKind, Report, Settlement, TaskSlots
from jobify.serializers import ExtendedJSONSerializer
from jobify.storage import SQLiteStorage
from jobify.storage.end_reasons import snoozed
from probes import database_of

ERROR = "ConnectionError: payment is down for order 4711"


def in_a_terminal(folder: Path, width: int, *arguments: str) -> list[str]:
    """The lines that a process shows on a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    with subprocess.Popen(
        [sys.executable, "-m", "jobify", *arguments],
        cwd=folder,
        env={**environment, "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    ) as process:
        os.close(theirs)
        said = b""
        while some := _read(ours):
            said += some
        assert process.wait(60) == 0, said
    os.close(ours)
    return lines_of(said.decode())


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other end is closed
        return b""


class Busy(NamedTuple):
    """A shop, and the ids of some of its jobs."""

    shop: Shop
    failed: str
    pending: str


@pytest.fixture
def busy(shop: Shop) -> Busy:
    """A failed job with an error, a waiting one, a schedule, an app with a long name of a task."""
    owner = shop.worker()
    failed = shop.ended(owner, "failed")
    with shop.storage.transaction():
        database_of(shop.storage).execute("UPDATE jobs SET error = ? WHERE id = ?", (ERROR, failed))
    pending = shop.add(task="shop.tasks.orders:send_invoice_by_mail", queue="late")
    shop.schedule("report__jobify_cron_definition", task="report")
    return Busy(shop, failed, pending)


# -- terminals of any width --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [140, 80, 40])
def test_the_error_and_the_whole_id_are_in_sight_and_no_line_is_wider(busy: Busy, width: int) -> None:
    lines = in_a_terminal(busy.shop.folder, width, "jobs", "list")
    assert max(map(len, lines)) <= width
    for id in (busy.failed, busy.pending):
        assert any(id in line for line in lines)
    assert any(ERROR[: width - 6] in line for line in lines)
    assert any("no worker knows this task" in line for line in lines)


@pytest.mark.parametrize("width", [80, 40])
@pytest.mark.parametrize(
    "words",
    [
        ["jobs", "show", "FAILED"],
        ["schedules"],
        ["queues"],
        ["workers"],
        ["stats"],
        ["tasks"],
        ["health", "--max-wait", "9h"],
    ],
    ids=lambda words: words[0] + words[-1],
)
def test_no_view_is_wider_than_the_terminal(busy: Busy, width: int, words: list[str]) -> None:
    lines = busy.shop.on_terminal(width, *(busy.failed if word == "FAILED" else word for word in words))
    assert max(map(len, lines)) <= width


def test_a_narrow_list_of_queues_says_what_is_not_zero(busy: Busy) -> None:
    lines = busy.shop.on_terminal(30, "queues")
    where = lines.index("default")
    assert lines[where + 1 : where + 3] == ["  1 pending  1 failed", "  1 workers"]


def test_a_job_that_is_shown_has_its_error_in_whole(busy: Busy) -> None:
    for width in (80, 40):
        text = " ".join(" ".join(busy.shop.on_terminal(width, "jobs", "show", busy.failed)).split())
        assert f"error {ERROR}" in text


COLUMNS = (
    Column("ID", is_kept=True),
    Column("STATUS", is_kept=True),
    Column("QUEUE", from_width=50),
    Column("TRY", is_number=True, from_width=40),
    Column("NOTE", is_rest=True),
)
ROWS = [["job-1", "failed", "mail", "3", "ValueError: there is no box"], ["job-22", "pending", "late", "0", ""]]


def texts(width: int, rows: list[list[str]] = ROWS) -> list[str]:
    return [line.plain for line in lay_out(COLUMNS, rows, width)]


def test_a_wide_table_has_its_text_beside_the_rest() -> None:
    assert texts(70) == [
        "ID      STATUS   QUEUE  TRY  NOTE",
        "job-1   failed   mail     3  ValueError: there is no box",
        "job-22  pending  late     0",
    ]


def test_a_narrow_table_has_it_below_and_as_many_columns_as_fit() -> None:
    assert texts(30) == [
        "ID      STATUS   QUEUE  TRY",
        "job-1   failed   mail     3",
        "  ValueError: there is no box",
        "job-22  pending  late     0",
    ]
    assert texts(22) == [
        "ID      STATUS   TRY",
        "job-1   failed     3",
        "  ValueError: there is",
        "  no box",
        "job-22  pending    0",
    ]


def test_a_very_narrow_table_is_blocks() -> None:
    lines = ["  ValueError", "  : there is", "  no box"]
    assert texts(12) == ["job-1", "  failed", *lines, "job-22", "  pending"]


def test_only_the_beginning_of_a_long_text_is_shown() -> None:
    text = "ValueError: " + " ".join(f"word{number}" for number in range(60))
    for width, count in ((150, 1), (78, 2), (38, 4), (10, 4)):
        lines = wrapped(text, width)
        assert len(lines) == count
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
        assert all(len(line) <= width for line in lines[:-1])
    assert texts(40, [["job-1", "failed", "mail", "3", text]])[-1].endswith("…")


def test_wide_characters_count_as_two_columns() -> None:
    rows = [["日本語", "failed", "mail", "3", "エラー" * 30]]
    for width in (20, 40, 80):
        assert max(line.cell_len for line in lay_out(COLUMNS, rows, width)) <= width


# -- schedules come last -----------------------------------------------------------------------------------------------


def test_schedules_stand_after_all_jobs_in_a_section_of_their_own(busy: Busy) -> None:
    lines = busy.shop.on_terminal(80, "jobs", "list")
    head = lines.index("Schedules")
    assert any("report__jobify_cron_definition" in line for line in lines[head:])
    assert not any("jobify_cron" in line for line in lines[:head])
    assert [row["id"] for row in busy.shop("jobs").table][-1] == "report__jobify_cron_definition"
    assert [job["id"] for job in busy.shop("jobs", "--json").json["jobs"]][-1] == "report__jobify_cron_definition"


@pytest.mark.parametrize("order", [[], ["--oldest-first"]])
def test_pages_go_on_from_jobs_to_schedules(shop: Shop, order: list[str]) -> None:
    jobs = [shop.add() for _ in range(3)]
    schedules = [shop.schedule(id) for id in ("a-first", "b-second", "z-third")]
    seen: list[str] = []
    after: list[str] = []
    while True:
        page = shop("jobs", "list", "--limit", "2", "--json", *order, *after).json
        seen += [job["id"] for job in page["jobs"]]
        if page["next"] is None:
            break
        after = ["--after", page["next"]]
    assert seen == ([*jobs, *schedules] if order else [*jobs[::-1], *schedules[::-1]])


def test_a_dead_schedule_is_found_among_the_dead(shop: Shop) -> None:
    shop.ended(shop.worker(), "permanently_failed", is_dead=True, id="nightly", rule=RULE, offset_at=shop.now)
    assert [row["id"] for row in shop("jobs", "list", "--status", "dead").table] == ["nightly"]


def test_a_schedule_that_waits_to_run_apart_is_not_paused(shop: Shop) -> None:
    shop.schedule("nightly")
    database = database_of(shop.storage)
    (seq,) = database.row("SELECT seq FROM jobs WHERE id = 'nightly'")
    with shop.storage.transaction():
        database.execute(
            "INSERT INTO suspects (job, attempt, deaths, seen, death, company, is_apart) "
            "VALUES (?, 0, 2, '[1]', 1, 2, 1)",
            (seq,),
        )
        database.execute("UPDATE jobs SET blockers = 1 WHERE seq = ?", (seq,))
    app = Jobify(storage=SQLiteStorage(shop.database))
    shop.worker()
    assert shop("schedules", "--json").json["schedules"][0]["is_paused"] is False
    assert "apart" in shop("schedules", "--json").json["schedules"][0]["note"]
    assert [view.is_paused for view in app.schedules()] == [False]
    shop("schedules", "pause", "nightly")
    assert shop("schedules", "--json").json["schedules"][0]["is_paused"] is True
    assert [view.is_paused for view in app.schedules()] == [True]
    app.close()


# -- tracebacks --------------------------------------------------------------------------------------------------------


def attempt(number: int, traceback: str | None) -> AttemptRecord:
    return AttemptRecord("job", number, 0, "retry at", "E", traceback, 0, 0, 1)


def trace(line: int, message: str) -> str:
    return f'Traceback (most recent call last):\n  File "a.py", line {line}, in f\n    g()\n{message}\n'


def test_equal_tracebacks_are_folded_with_their_count() -> None:
    found = folded([attempt(number, trace(3, f"E: took {number}.5 s at 0x7f{number}")) for number in (1, 2, 3, 5)])
    assert [each.title for each in found] == ["Traceback of attempts 1-3, 5 (4 times)"]
    assert found[0].text == trace(3, "E: took 5.5 s at 0x7f5").rstrip()


def test_other_lines_and_other_errors_are_tracebacks_of_their_own() -> None:
    attempts = [attempt(1, trace(3, "E: a")), attempt(2, trace(4, "E: a")), attempt(3, trace(3, "E: b"))]
    assert [each.attempts for each in folded([*attempts, attempt(4, None), attempt(5, trace(3, "E: a"))])] == [
        (2,),
        (3,),
        (1, 5),
    ]


def test_a_job_that_has_failed_in_one_way_shows_one_traceback(shop: Shop) -> None:
    job = shop.ended(shop.worker(), "failed")
    line = shop.storage.attempts(job)[0]
    shop.storage.add_history([line._replace(attempt=number) for number in range(2, 41)])
    text = shop("jobs", "show", job).out
    assert text.count("Traceback (most recent call last)") == 1
    assert "# Traceback of attempts 1-40 (40 times)" in text
    assert len(shop("jobs", "show", job, "--json").json["attempts"]) == 40
    lines = shop.on_terminal(80, "jobs", "show", job)
    assert any("… 20 earlier ones, --json has all" in line for line in lines)
    assert sum("same as attempt 21" in line for line in lines) == 19


def test_marks_below_a_wrapped_line_are_left_out(shop: Shop) -> None:
    job = shop.ended(shop.worker(), "failed")
    line = shop.storage.attempts(job)[0]
    frame = f'  File "shop.py", line 9, in pack\n    check({"box, " * 12})\n{" " * 10}{"^" * 50}\n    x\n    ^\n'
    shop.storage.add_history([line._replace(attempt=2, traceback=f"Traceback:\n{frame}KeyError\n")])
    for width, count in ((100, 2), (40, 1)):
        lines = shop.on_terminal(width, "jobs", "show", job)
        assert sum(bool(line) and not line.strip(" ^") for line in lines) == count


def test_of_many_relations_a_terminal_shows_some(shop: Shop) -> None:
    parents = [shop.add() for _ in range(9)]
    child = shop.add(parents=tuple(parents))
    lines = shop.on_terminal(80, "jobs", "show", child)
    assert "and 5 more" in " ".join(" ".join(lines).split())
    assert [id for id in parents if any(id in line for line in lines)] == parents[:4]
    assert all(id in shop("jobs", "show", child).out for id in parents)


def test_runs_of_a_schedule_are_counted_not_listed() -> None:
    (found,) = folded([attempt(1, trace(3, "E: a")) for _ in range(8)])
    assert found.title == "Traceback of 8 attempts"


def test_a_job_that_waits_again_says_when_it_is_due(shop: Shop) -> None:
    job, owner = shop.add(), shop.worker()
    (claim,) = shop.storage.claim(ClaimRequest(owner, (TaskSlots(("pack",), 1),)), now=shop.now).claims
    later = shop.now + 3600 * SECOND
    shop.storage.settle(
        [
            Settlement(
                *("scheduled", False, later, shop.now, 0, 0, 0, None, snoozed("not yet"), None, None, False, False),
                *(job, owner, claim.fence),
            )
        ]
    )
    lines = shop.on_terminal(80, "jobs", "show", job)
    assert any(re.match(r"note +due in 59 m; snoozed by its task: not yet$", line) for line in lines)
    assert any(re.match(r"due +20.* UTC \(in 59 m\)$", line) for line in lines)
    assert not any(line.startswith("error") for line in lines)
    assert any("snoozed by its task: not yet" in line for line in shop.on_terminal(80, "jobs", "list"))


# -- messages ----------------------------------------------------------------------------------------------------------


def test_only_the_newest_messages_are_read(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = shop.worker()
    job = shop.running(owner)
    (claim,) = shop.storage.get([job])
    lines = [
        Report(job, owner, claim.fence, MessageKind.LOG, shop.now, f"line {number}", "info")
        for number in range(1, 1501)
    ]
    assert all(shop.storage.report(lines))
    read = 0
    original = SQLiteStorage.messages

    def counted(self: SQLiteStorage, *args: Any, **kwargs: Any) -> Any:
        nonlocal read
        found = original(self, *args, **kwargs)
        read += len(found)
        return found

    monkeypatch.setattr(SQLiteStorage, "messages", counted)
    document = shop("jobs", "show", job, "--json").json
    assert [message["data"] for message in document["messages"]] == [f"line {number}" for number in range(1481, 1501)]
    assert document["message_count"] == 1500
    assert read < 100
    assert "# Messages (the last 2 of 1500)" in shop("jobs", "show", job, "--messages", "2").out
    assert shop("jobs", "show", job, "--messages", "0", "--json").json["messages"] == []


# -- arguments ---------------------------------------------------------------------------------------------------------

SERIALIZER = ExtendedJSONSerializer()
CALL = SERIALIZER.dumpb([[("a", 1), datetime(2026, 1, 31, 12, tzinfo=UTC)], {"sizes": {1: {2, 3}}, "raw": b"\xff"}])
ARGS: list[Any] = [["a", 1], "2026-01-31T12:00:00Z"]
KWARGS: dict[str, Any] = {"sizes": {"1": [2, 3]}, "raw": "/w=="}


def test_arguments_are_plain_json_everywhere(shop: Shop) -> None:
    job = shop.add(payload=CALL)
    app = Jobify(storage=SQLiteStorage(shop.database))
    handle = app.get_job(job)
    assert (handle.args, handle.kwargs) == (ARGS, KWARGS)
    assert (handle.to_dict()["args"], handle.to_dict()["kwargs"]) == (ARGS, KWARGS)
    for document in (shop("jobs", "show", job, "--json").json, shop("jobs", "--json").json["jobs"][0]):
        assert (document["args"], document["kwargs"]) == (ARGS, KWARGS)
    assert json.loads(json.dumps(handle.to_dict())) == handle.to_dict()
    shown = shop("jobs", "show", job).out
    assert 'arguments\t["a", 1], "2026-01-31T12:00:00Z", sizes={"1": [2, 3]}, raw="/w=="\n' in shown
    app.close()


def test_large_arguments_are_there_too(shop: Shop) -> None:
    large = "x" * 100_000
    job = shop.add(payload=SERIALIZER.dumpb([[large], {}]))
    app = Jobify(storage=SQLiteStorage(shop.database))
    assert app.get_job(job).args == app.get_job(job).to_dict()["args"] == [large]
    assert shop("jobs", "show", job, "--json").json["args"] == [large]
    assert shop("jobs", "--json").json["jobs"][0]["args"] is None  # a list does not read them
    text = "\n".join(shop.on_terminal(80, "jobs", "show", job))
    assert "(100002 characters, --json has all)" in " ".join(text.split())
    assert len(text) < 5000
    app.close()


def test_classes_that_are_gone_are_shown_by_their_fields(shop: Shop) -> None:
    point = {"$": "dataclass", "t": "gone.shop:Point", "v": {"fields": {"x": 1, "tags": {"$": "set", "v": ["a"]}}}}
    odd = {"$": "of a newer release", "v": [1]}
    job = shop.add(payload=json.dumps([[point, odd], {}]).encode())
    app = Jobify(storage=SQLiteStorage(shop.database))
    assert app.get_job(job).args == [{"x": 1, "tags": ["a"]}, [1]]
    app.close()


@pytest.mark.parametrize("payload", [b"\x80\x04K\x01.", b"no json", b'"text"', b"[1]", b'[[], "x"]'])
def test_what_is_no_call_in_json_is_shown_by_its_size_and_nothing_is_executed(shop: Shop, payload: bytes) -> None:
    job = shop.add(payload=payload)
    document = shop("jobs", "show", job, "--json").json
    assert (document["args"], document["kwargs"]) == (None, None)
    app = Jobify(storage=SQLiteStorage(shop.database))
    assert app.get_job(job).to_dict()["args"] is None
    with pytest.raises(PayloadError):
        _ = app.get_job(job).args
    app.close()


def test_arguments_of_another_serializer_are_read_by_the_app(tmp_path: Path) -> None:
    from jobify.serializers import MsgpackSerializer

    app = Jobify(storage=str(tmp_path / "jobs.db"), serializer=MsgpackSerializer())
    job = app.enqueue("pack", (1, "tea"), {"size": 2})
    assert (job.args, job.kwargs) == ([1, "tea"], {"size": 2})
    assert job.to_dict()["args"] == [1, "tea"]
    app.close()


def test_a_result_is_plain_json_too(shop: Shop) -> None:
    job = shop.ended(shop.worker(), "success")
    document = shop("jobs", "show", job, "--json").json
    assert document["result"] == "packed"
    assert 'result\t"packed"\n' in shop("jobs", "show", job).out


def test_the_note_of_a_job_with_a_time_is_unchanged(shop: Shop) -> None:
    shop.worker()
    later = shop.add(ready=False, due_at=shop.now + 7200 * SECOND)
    assert shop("jobs", "show", later, "--json").json["note"].startswith("due in 1 h")
