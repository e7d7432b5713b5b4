"""`jobify enqueue | tasks`, `jobs wait | logs`: from the command line to a job and back."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli_shop import SECOND, Shop
from jobify import Jobify
from jobify.client.producer import client_of
from jobify.model.records import MessageKind, Report
from jobify.worker.exit_codes import ExitCode
from support import until
from workers import PATIENCE, Make

APP = """
from datetime import datetime
from jobify import Debounce, Jobify, JobRouter, RunMode, Unique, current_job

app = Jobify(storage="shop.db")
images = JobRouter(prefix="images")

@images.task(name="resize", queue="images", retry=2, timeout=30)
def resize(name: str, size: int = 64) -> str:
    return f"{name} {size}"

@app.task(name="nightly", cron="0 3 * * *", priority=7)
async def nightly() -> None: ...

@app.task(name="square", run_mode=RunMode.PROCESS)
def square(x: int) -> int:
    return x * x

@app.task(name="steps")
async def steps() -> str:
    for number in range(3):
        current_job.log(f"step {number}")
    current_job.update_progress(50)
    current_job.publish({"part": 1})
    return "done"

@app.task(name="fail")
async def fail() -> None:
    raise ValueError("no box")

@app.task(name="save", debounce=Debounce(600))
def save(version: int) -> None: ...

@app.task(name="sync", unique=Unique("on", on_conflict="replace"))
def sync(version: int, on: str = "monday") -> None: ...

app.include_router(images)
"""


@pytest.fixture
def studio(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A shop with an app of several tasks."""
    shop.folder.joinpath("studio.py").write_text(APP)
    monkeypatch.setenv("JOBIFY_APP", "studio:app")
    sys.modules.pop("studio", None)
    yield shop
    sys.modules.pop("studio", None)


def row(shop: Shop, answer: Any) -> Any:
    """The row of the job whose id is the answer."""
    assert answer.code == 0, answer.err
    (found,) = shop.storage.get([answer.out.split("\t")[0]])
    return found


# -- enqueue -----------------------------------------------------------------------------------------------------------


def test_a_job_is_stored_with_its_arguments_and_options(studio: Shop) -> None:
    answer = studio("enqueue", "images:resize", "--args", '["cat.png"]', "--kwargs", '{"size": 32}')
    job = row(studio, answer)
    assert answer.out == f"{job.id}\tpending\n"
    assert (job.task, job.queue, job.payload) == ("images:resize", "images", b'[["cat.png"],{"size":32}]')
    options = ["--queue", "late", "--priority", "5", "--delay", "2h", "--unique-key", "k", "--metadata", "user=ada"]
    job = row(studio, studio("enqueue", "nightly", *options, "--job-id", "mine", "--expires", "3h", "--retry", "1"))
    assert (job.id, job.queue, job.priority) == ("mine", "late", 5)
    assert job.due_at - job.created_at == 7200 * SECOND
    assert job.expires_at - job.created_at == 3 * 3600 * SECOND
    assert json.loads(job.options)["metadata"] == {"user": "ada"}
    assert json.loads(job.options)["retry"]["retries"] == 1


TYPED = """
import dataclasses, datetime, enum, uuid
from pydantic import BaseModel
from jobify import Jobify

app = Jobify(storage="shop.db"{options})

class Color(enum.Enum):
    RED = "red"

@dataclasses.dataclass
class Box:
    size: int

class Order(BaseModel):
    id: int
    at: datetime.datetime | None = None

@app.task(name="pack")
def pack(order: Order, box: Box | None = None, color: Color = Color.RED, others: list[Order] = [], n: int = 1,
         text=None):
    return [type(value).__name__ for value in (order, box, color, *others, n, text)]
"""


@pytest.mark.parametrize("options", ["", ", dumper=PydanticConverter(), loader=PydanticConverter()"])
def test_json_becomes_what_the_task_expects(shop: Shop, options: str) -> None:
    """A model, a dataclass, an enum: JSON has no words for them, and the task would fail on a dict."""
    imports = "from jobify import PydanticConverter\n" if options else ""
    shop.folder.joinpath("typed.py").write_text(imports + TYPED.replace("{options}", options))
    call = ["pack", "--app", "typed:app", "--args", '[{"id": 1, "at": "2026-01-31T12:00:00"}]']
    more = '{"box": {"size": 2}, "color": "red", "others": [{"id": 2}], "n": 3, "text": {"a": [1]}}'
    try:
        job = row(shop, shop("enqueue", *call, "--kwargs", more))
        app = sys.modules["typed"].app

        async def main() -> Any:
            async with app:
                return await app.get_job(job.id).aresult(timeout=10)

        assert asyncio.run(main()) == ["Order", "Box", "Color", "Order", "int", "dict"]
        answer = shop("enqueue", "pack", "--app", "typed:app", "--args", '[{"id": "x"}]')
        assert answer.code == 2
        assert "The argument 'order' cannot be converted to the Order that the task expects" in answer.err
    finally:
        sys.modules.pop("typed", None)


def test_a_job_waits_for_a_time_or_for_others(studio: Shop) -> None:
    first = row(studio, studio("enqueue", "nightly", "--at", "2100-01-01T12:00", "--timeout", "1.5"))
    assert first.due_at == 4_102_488_000 * SECOND
    assert json.loads(first.options)["timeout"] == 1.5
    second = row(studio, studio("enqueue", "nightly", "--depends-on", first.id, "--delay", "90"))
    assert second.blockers == 1
    assert second.due_at - second.created_at == 90 * SECOND


def test_a_unique_key_that_is_in_use_stores_nothing(studio: Shop) -> None:
    first = studio("enqueue", "nightly", "--unique-key", "k")
    second = studio("enqueue", "nightly", "--unique-key", "k", "--json")
    assert second.json == {"jobs": [{"id": first.out.split("\t")[0], "status": "exists"}]}
    assert "Nothing was stored" in second.err


@pytest.mark.parametrize(
    ("task", "note"), [("save", "the call was merged into this job"), ("sync", "takes the arguments of the call")]
)
def test_a_call_that_changes_an_earlier_job_says_so(studio: Shop, task: str, note: str) -> None:
    first = studio("enqueue", task, "--args", "[1]")
    second = studio("enqueue", task, "--args", "[2]")
    assert second.out == first.out.replace("pending", "exists")
    assert note in second.err
    assert json.loads(studio("jobs", "show", first.out.split("\t")[0], "--json").out)["args"] == [2]


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["images:resise"], 3, "Did you mean 'images:resize'?"),
        (["images:resize"], 2, "The arguments do not fit the task 'images:resize'"),
        (["images:resize", "--args", "[1, 2, 3]"], 2, "The arguments do not fit"),
        (["images:resize", "--args", "cat.png"], 2, "--args 'cat.png' is not JSON"),
        (["images:resize", "--args", '"cat.png"'], 2, "is not a JSON list"),
        (["images:resize", "--kwargs", "[1]"], 2, "is not a JSON object"),
        (["nightly", "--delay", "soon"], 2, "is not a duration"),
        (["nightly", "--delay", "-5"], 2, "is not a duration"),
        (["nightly", "--delay", "nan"], 2, "is not a duration"),
        (["nightly", "--at", "noon"], 2, "is not a time"),
        (["nightly", "--at", "2100-01-01", "--delay", "5"], 2, "Leave one of them out"),
        (["nightly", "--metadata", "user"], 2, "is not a pair"),
        (["nightly", "--depends-on", "nobody"], 1, "nobody"),
    ],
)
def test_what_cannot_be_enqueued_is_one_line(studio: Shop, arguments: list[str], code: int, complaint: str) -> None:
    answer = studio("enqueue", *arguments)
    assert (answer.code, answer.out) == (code, "")
    assert complaint in answer.err
    assert answer.err.count("\n") == 1
    assert studio("jobs", "list").table == []


def test_with_the_database_alone_nothing_is_checked_and_that_is_said(
    studio: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBIFY_APP", "nowhere:app")
    answer = studio("enqueue", "images:resize", "--args", '["a", "b", "c"]', "--database", "shop.db")
    job = row(studio, answer)
    assert (job.task, job.queue) == ("images:resize", "default")
    assert "the name of the task and its arguments are not checked" in answer.err
    assert "The job waits, because no worker runs." in answer.err
    studio.worker("wrap")
    assert "because no worker knows this task" in studio("enqueue", "pack", "--database", "shop.db").err
    assert studio("enqueue", "pack", "--database", "missing.db").code == 1


# -- tasks -------------------------------------------------------------------------------------------------------------


def test_tasks_are_listed_with_what_holds_for_them(studio: Shop) -> None:
    tasks = {task["name"]: task for task in studio("tasks", "--json").json["tasks"]}
    assert [*tasks] == ["fail", "images:resize", "nightly", "save", "square", "steps", "sync"]
    assert tasks["images:resize"] == {
        "name": "images:resize",
        "queue": "images",
        "priority": 0,
        "run_mode": "thread",
        "cron": None,
        "retries": 2,
        "timeout": 30,
        "durable": True,
        "aliases": [],
    }
    assert (tasks["nightly"]["cron"], tasks["nightly"]["priority"]) == ("0 3 * * *", 7)
    rows = {task["task"]: task for task in studio("tasks").table}
    assert (rows["square"]["runs in"], rows["nightly"]["cron"], rows["steps"]["runs in"]) == (
        "process",
        "0 3 * * *",
        "main",
    )


def test_without_the_app_tasks_are_those_of_the_workers(studio: Shop) -> None:
    assert studio("tasks", "--database", "shop.db", "--json").json == {"tasks": []}
    studio.worker("pack", "wrap")
    studio.worker("wrap")
    assert studio("tasks", "--database", "shop.db").table == [
        {"task": "pack", "workers": "1"},
        {"task": "wrap", "workers": "2"},
    ]


# -- wait --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "is_dead", "word", "code"),
    [("success", False, "complete", 0), ("failed", False, "failed", 6), ("timeout", True, "dead", 6)],
)
def test_the_exit_code_says_how_a_job_has_ended(shop: Shop, status: str, is_dead: bool, word: str, code: int) -> None:
    job = shop.ended(shop.worker(), status, is_dead=is_dead)
    answer = shop("jobs", "wait", job[:-1], "--json")
    assert answer.code == code
    error = None if word == "complete" else "ValueError: no box"
    assert json.loads(answer.out) == {"id": job, "status": word, "error": error}


def test_a_cancelled_job_an_unfinished_one_and_none_at_all_have_codes_of_their_own(shop: Shop) -> None:
    job = shop.add()
    unfinished = shop("jobs", "wait", job, "--timeout", "0.01")
    assert (unfinished.code, unfinished.out) == (ExitCode.STILL_UNFINISHED, "")
    assert f"{job} has not ended within 10 ms: it is pending, no worker runs." in unfinished.err
    shop("jobs", "cancel", job)
    assert shop("jobs", "wait", job)[:2] == (ExitCode.JOB_CANCELLED, f"{job}\tcancelled\tcancelled\n")
    assert shop("jobs", "wait", "nobody").code == ExitCode.NOT_FOUND
    schedule = shop("jobs", "wait", shop.schedule("nightly"))
    assert (schedule.code, "does not end with a run" in schedule.err) == (ExitCode.USAGE, True)


def test_a_process_waits_for_a_job_that_a_worker_runs(site: Make) -> None:
    here = site()
    here.worker()
    job = here.enqueue("hold_on_loop")
    here.until_noted("hold_on_loop")
    command = [sys.executable, "-m", "jobify", "jobs", "wait", job, "--database", "jobs.db"]
    with subprocess.Popen(command, cwd=here.folder, stdout=subprocess.PIPE, text=True) as waiting:
        here.go()
        out, _ = waiting.communicate(timeout=PATIENCE)
    assert (waiting.returncode, out) == (0, f"{job}\tcomplete\n")


# -- logs --------------------------------------------------------------------------------------------------------------


def reporting(shop: Shop, count: int) -> str:
    """A running job with so many lines of log."""
    owner = shop.worker()
    job = shop.running(owner)
    (claim,) = shop.storage.get([job])
    lines = [
        Report(job, owner, claim.fence, MessageKind.LOG, shop.now, f"line {number}", "info")
        for number in range(1, count + 1)
    ]
    assert all(shop.storage.report(lines))
    return job


def test_logs_are_shown_from_the_first_or_from_the_last_few(shop: Shop) -> None:
    job = reporting(shop, 700)
    assert [line.split()[-1] for line in shop("jobs", "logs", job).out.splitlines()] == [*map(str, range(1, 701))]
    assert [line.split()[-1] for line in shop("jobs", "logs", job, "-n", "2").out.splitlines()] == ["699", "700"]
    assert shop("jobs", "logs", job, "-n", "0").out == ""
    documents = [*map(json.loads, shop("jobs", "logs", job, "--messages", "1", "--json").out.splitlines())]
    assert [(line["number"], line["level"], line["data"]) for line in documents] == [(700, "info", "line 700")]
    assert shop("jobs", "logs", "nobody").code == 3


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 9, 100])
def test_the_newest_messages_are_found_without_reading_all(shop: Shop, count: int) -> None:
    job = reporting(shop, count)
    app = Jobify(storage=shop.storage)
    handles = client_of(app).operations
    assert handles.reader.last_message_number(job) == count
    assert [message.number for message in handles.reader.newest_messages(job, 3)] == [
        *range(max(1, count - 2), count + 1)
    ]


def test_logs_of_a_running_job_are_followed_to_its_end(site: Make) -> None:
    here = site(
        """
        @app.task(name="talk")
        async def talk():
            from jobify import current_job
            current_job.log("begun", level="warning")
            current_job.update_progress(40)
            note("talk")
            while not GO.exists():
                await asyncio.sleep(0.01)
            current_job.log("the last word")
        """
    )
    here.worker()
    job = here.enqueue("talk")
    command = [sys.executable, "-m", "jobify", "jobs", "logs", "-f", job, "--database", "jobs.db"]
    lines: list[str] = []
    with subprocess.Popen(
        command, cwd=here.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        reader = threading.Thread(target=lines.extend, args=(iter(following.stdout.readline, ""),))
        reader.start()
        until(lambda: any("40 %" in line for line in lines), "the progress")
        assert any("warning" in line and "begun" in line for line in lines)
        here.go()
        assert following.wait(PATIENCE) == 0
        reader.join(PATIENCE)
        assert any("the last word" in line for line in lines)
        assert following.stderr.read() == f"{job} is complete.\n"


def test_what_is_followed_ends_with_ctrl_c(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    job = reporting(shop, 1)

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jobify.cli.jobs.listing.time.sleep", interrupted)
    answer = shop("jobs", "logs", "-f", job)
    assert (answer.code, answer.out.count("line 1"), answer.err) == (0, 1, "")


def test_a_terminal_gets_no_escape_sequence_from_a_log(shop: Shop, tmp_path: Path) -> None:
    owner = shop.worker()
    job = shop.running(owner)
    (claim,) = shop.storage.get([job])
    shop.storage.report([Report(job, owner, claim.fence, MessageKind.LOG, shop.now, "a\x1b[31mb", "info")])
    assert r"a\x1b[31mb" in shop("jobs", "logs", job).out
    assert "\x1b" not in shop("jobs", "logs", job, "--json").out
