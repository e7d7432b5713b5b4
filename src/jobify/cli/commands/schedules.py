"""``jobify schedules …``: list, pause, resume, run now."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from jobify.cli.options import Json, Source, for_jobs, new_group

if TYPE_CHECKING:
    from datetime import tzinfo

    from jobify.cli.session import Session
    from jobify.client.views import ClusterState
    from jobify.model.records import JobRecord

__all__ = ("schedules",)

schedules = new_group("List, pause and resume schedules; run one now.", lists_by_default=True)
Schedules = Annotated[
    list[str], typer.Argument(metavar="ID", help="Ids of schedules, or names of their tasks.", show_default=False)
]


@schedules.command("list")
@for_jobs
def list_schedules(source: Source, as_json: Json = False) -> None:
    """List all schedules."""
    from jobify.cli.documents import schedule_document
    from jobify.cli.output import print_document
    from jobify.cli.session import open_session

    with open_session(source, may_be_missing=True) as session:
        found, cluster, zone = list(session.queries.schedule_records()), session.cluster_state(), session.app.zone
    if as_json:
        print_document({"schedules": [schedule_document(job, cluster) for job in found]})
        return
    _print_schedules(found, cluster, zone)


def _print_schedules(found: Sequence[JobRecord], cluster: ClusterState, zone: tzinfo) -> None:
    from jobify.cli.output import Column, print_table
    from jobify.cli.time_format import stamp
    from jobify.model.cron import rule_as_written
    from jobify.model.public_status import public_status

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
            cluster.note(job) or (public_status(job.status, job.is_dead) if job.finished_at else ""),
        )
        for job in found
        for rule in (rule_as_written(job.rule),)
    ]
    print_table(columns, rows, nothing="No schedules.")


@schedules.command("pause")
@for_jobs
def pause(source: Source, ids: Schedules, as_json: Json = False) -> None:
    """Start no more runs of these schedules. A current run goes on."""
    from jobify.cli.session import open_session

    with open_session(source) as session:
        _change(session, ids, session.app.pause_schedule, "paused", as_json=as_json)


@schedules.command("resume")
@for_jobs
def resume(source: Source, ids: Schedules, as_json: Json = False) -> None:
    """Undo pause, or revive a schedule that its failures have stopped. The misfire policy decides about missed runs."""
    from jobify.cli.session import open_session

    with open_session(source) as session:
        _change(session, ids, session.app.resume_schedule, "resumed", as_json=as_json)


@schedules.command("run-now")
@for_jobs
def run_now(
    source: Source,
    id: Annotated[
        str, typer.Argument(metavar="ID", help="The id of a schedule, or the name of its task.", show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """Run the task of a schedule once, as a job of its own. The schedule is not affected."""
    from jobify.cli.errors import CommandError
    from jobify.cli.output import result_printer
    from jobify.cli.session import open_session, schedule_id
    from jobify.exceptions import ConfigurationError
    from jobify.worker.exit_codes import ExitCode

    with open_session(source) as session:
        try:
            job = session.app.run_schedule_now(schedule_id(session, id))
        except ConfigurationError as error:
            raise CommandError(str(error), ExitCode.NOT_FOUND) from error
    with result_printer("jobs", as_json) as print_result:
        print_result(job.id, "pending")


def _change(session: Session, texts: list[str], change: Callable[[str], bool], done: str, *, as_json: bool) -> None:
    """Change each of the schedules, then report those that could not be changed."""
    from jobify.cli.output import report_problems, result_printer
    from jobify.cli.session import find_all, schedule_id
    from jobify.worker.exit_codes import ExitCode

    found = find_all(texts, partial(schedule_id, session), partial(_unknown, session))
    problems = [*found.problems]
    with result_printer("schedules", as_json) as print_result:
        for id in found.ids:
            if change(id):
                print_result(id, done)
            else:
                problems.append(f"{id}: {_why_not_changed(session, id, done)}")
    report_problems(problems, ExitCode.NOT_FOUND if len(problems) > len(found.problems) else found.code)


def _unknown(session: Session, text: str) -> str:
    """The message about a text that names no schedule."""
    from jobify.runtime.errortools import closest

    known = {name for job in session.queries.schedule_records() for name in (job.id, job.task)}
    near = closest(text, known)
    return "there is no such schedule" + (f". Did you mean {near!r}?" if near else "")


def _why_not_changed(session: Session, id: str, done: str) -> str:
    """Why a schedule could not be paused or resumed."""
    from jobify.client.views import stopped_note
    from jobify.model.public_status import public_status

    record = session.operations.reader.record(id)
    if record.rule is None:
        return "it is a job, not a schedule"
    if stopped := stopped_note(record, time.time_ns() // 1000):
        return f"it is {stopped}. `jobify schedules resume` revives it"
    if record.finished_at is not None:
        return f"it has ended ({public_status(record.status, record.is_dead)})"
    return "it is not paused and was not stopped" if done == "resumed" else "it could not be paused"
