"""``jobify schedules …``: list, pause, resume, run now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jobify.cli.options import App, Json, new_group

if TYPE_CHECKING:
    from jobify.cli.desk import Desk

__all__ = ("schedules",)

schedules = new_group("List, pause and resume schedules; run one now.")
Schedules = Annotated[list[str], typer.Argument(metavar="ID", help="Ids of schedules.", show_default=False)]


@schedules.command("list")
def list_schedules(app: App = None, as_json: Json = False) -> None:
    """List all schedules."""
    from jobify.cli.desk import open_desk
    from jobify.cli.notes import look_around
    from jobify.cli.output import print_document
    from jobify.cli.records import schedule_document
    from jobify.records import JobQuery

    with open_desk(app) as desk:
        found, scene = list(desk.pages(JobQuery(is_schedule=True))), look_around(desk)
        zone = desk.zone
    if as_json:
        print_document({"schedules": [schedule_document(job, scene) for job in found]})
        return
    from jobify.cli.moments import stamp
    from jobify.cli.output import Column, print_table
    from jobify.cli.records import rule_of

    columns = (
        Column("ID", is_kept=True),
        Column("CRON", is_kept=True),
        Column("NEXT RUN"),
        Column("RUNS", from_width=90, is_number=True),
        Column("FAILURES", from_width=105, is_number=True),
        Column("TASK", from_width=120),
        Column("NOTE", style="dim", is_rest=True),
    )
    rows = [
        (
            job.id,
            rule_of(job).get("expression", "?"),
            "" if job.finished_at else stamp(job.due_at, zone=zone, is_short=True),
            job.run_count,
            job.failure_count,
            job.task,
            job.status if job.finished_at else scene.note(job),
        )
        for job in found
    ]
    print_table(columns, rows, nothing="No schedules.")


@schedules.command("pause")
def pause(ids: Schedules, app: App = None) -> None:
    """Start no more runs of these schedules. A run that is under way goes on."""
    from jobify.cli.desk import open_desk

    with open_desk(app) as desk:
        _answer(ids, desk.storage.pause(ids), "paused", "there is no such schedule, or it has ended")
        desk.ring()


@schedules.command("resume")
def resume(ids: Schedules, app: App = None) -> None:
    """Undo pause. What was missed meanwhile is run or skipped as the schedule's misfire policy says."""
    from jobify.cli.desk import open_desk

    with open_desk(app) as desk:
        _answer(
            ids, desk.storage.resume(ids, now=desk.now()), "resumed", "there is no such schedule, or it is not paused"
        )
        desk.ring()


@schedules.command("run-now")
def run_now(
    id: Annotated[str, typer.Argument(metavar="ID", help="The id of a schedule.", show_default=False)], app: App = None
) -> None:
    """Run a schedule's task once, as a job of its own; the schedule goes on as if nothing had happened."""
    from jobify.cli.desk import open_desk

    with open_desk(app) as desk:
        print(f"{_enqueue_run(desk, id)}\tpending")
        desk.ring()


def _enqueue_run(desk: Desk, id: str) -> str:
    from jobify.cli.errors import CommandError
    from jobify.exits import ExitCode
    from jobify.identifiers import new_id
    from jobify.records import NewJob
    from jobify.status import JobStatus

    row, now = desk.record(id, what="schedule"), desk.now()
    if row.rule is None:
        raise CommandError(f"{id!r} is a job, not a schedule.", ExitCode.NOT_FOUND)
    job = NewJob(
        id=new_id(),
        task=row.task,
        queue=row.queue,
        priority=row.priority,
        status=JobStatus.SCHEDULED.value,
        ready=True,
        due_at=now,
        created_at=now,
        payload=row.payload,
        rule=None,
        offset_at=None,
        options=row.options,
        origin=None,
        owner=None,
        fence=0,
        attempt=0,
        started_at=None,
        unique_key=None,
        expires_at=None,
    )
    desk.storage.insert([job])
    return job.id


def _answer(ids: list[str], answers: list[bool], done: str, problem: str) -> None:
    from jobify.cli.errors import CommandError
    from jobify.exits import ExitCode

    for id, is_done in zip(ids, answers, strict=True):
        if is_done:
            print(f"{id}\t{done}")
    refused = [id for id, is_done in zip(ids, answers, strict=True) if not is_done]
    if refused:
        raise CommandError(f"{', '.join(refused)}: {problem}.", ExitCode.NOT_FOUND)
