"""``jobify schedules …``: list, pause, resume, run now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from jobify.cli.options import App, Json, new_group

if TYPE_CHECKING:
    from datetime import tzinfo

    from jobify.cli.notes import Scene
    from jobify.records import JobRecord

__all__ = ("schedules",)

schedules = new_group("List, pause and resume schedules; run one now.", lists_by_default=True)
Schedules = Annotated[list[str], typer.Argument(metavar="ID", help="Ids of schedules.", show_default=False)]


@schedules.command("list")
def list_schedules(app: App = None, as_json: Json = False) -> None:
    """List all schedules."""
    from jobify.cli.desk import open_desk
    from jobify.cli.notes import look_around
    from jobify.cli.output import print_document
    from jobify.cli.records import schedule_document

    with open_desk(app, may_be_missing=True) as desk:
        found, scene, zone = list(desk.board.schedule_records()), look_around(desk), desk.app.zone
    if as_json:
        print_document({"schedules": [schedule_document(job, scene) for job in found]})
        return
    _print_schedules(found, scene, zone)


def _print_schedules(found: Sequence[JobRecord], scene: Scene, zone: tzinfo) -> None:
    from jobify.cli.moments import stamp
    from jobify.cli.output import Column, print_table
    from jobify.cron import rule_as_written

    columns = (
        Column("ID", is_kept=True),
        Column("CRON", is_kept=True),
        Column("ZONE", from_width=75),
        Column("NEXT RUN"),
        Column("RUNS", from_width=90, is_number=True),
        Column("FAILURES", from_width=105, is_number=True),
        Column("TASK", from_width=120),
        Column("NOTE", style="dim", is_rest=True),
    )
    rows = [
        (
            job.id,
            rule.get("expression", "?"),
            rule.get("zone", ""),
            "" if job.finished_at else stamp(job.due_at, zone=zone, is_short=True),
            job.run_count,
            job.failure_count,
            job.task,
            job.status if job.finished_at else scene.note(job),
        )
        for job in found
        for rule in (rule_as_written(job.rule),)
    ]
    print_table(columns, rows, nothing="No schedules.")


@schedules.command("pause")
def pause(ids: Schedules, app: App = None, as_json: Json = False) -> None:
    """Start no more runs of these schedules. A run that is under way goes on."""
    from jobify.cli.desk import open_desk

    with open_desk(app) as desk:
        _tell(ids, desk.app.pause_schedule, "paused", "there is no such schedule, or it has ended", as_json)


@schedules.command("resume")
def resume(ids: Schedules, app: App = None, as_json: Json = False) -> None:
    """Undo pause. What was missed meanwhile is run or skipped as the schedule's misfire policy says."""
    from jobify.cli.desk import open_desk

    with open_desk(app) as desk:
        _tell(ids, desk.app.resume_schedule, "resumed", "there is no such schedule, or it is not paused", as_json)


@schedules.command("run-now")
def run_now(
    id: Annotated[str, typer.Argument(metavar="ID", help="The id of a schedule.", show_default=False)],
    app: App = None,
    as_json: Json = False,
) -> None:
    """Run a schedule's task once, as a job of its own; the schedule goes on as if nothing had happened."""
    from jobify.cli.desk import open_desk
    from jobify.cli.errors import CommandError
    from jobify.cli.output import answering
    from jobify.exceptions import ConfigurationError
    from jobify.exits import ExitCode

    with open_desk(app) as desk:
        try:
            job = desk.app.run_schedule_now(id)
        except ConfigurationError as error:
            raise CommandError(str(error), ExitCode.NOT_FOUND) from error
    with answering("jobs", as_json) as tell:
        tell(job.id, "pending")


def _tell(ids: list[str], order: Callable[[str], bool], done: str, problem: str, as_json: bool) -> None:
    from jobify.cli.errors import CommandError
    from jobify.cli.output import answering
    from jobify.exits import ExitCode

    refused = []
    with answering("schedules", as_json) as tell:
        for id in ids:
            if order(id):
                tell(id, done)
            else:
                refused.append(id)
    if refused:
        raise CommandError(f"{', '.join(refused)}: {problem}.", ExitCode.NOT_FOUND)
