"""``jobify jobs …``: list, show, cancel, retry, delete, purge."""

from __future__ import annotations

from typing import Annotated

import typer

from jobify.cli.choice import Selection, with_selection
from jobify.cli.filters import Filters, explain_nothing
from jobify.cli.options import Json, Queue, Since, Source, Status, Task, Until, Yes, for_jobs, new_group

__all__ = ("jobs",)

jobs = new_group("List, show, cancel, retry, delete and purge jobs.", lists_by_default=True)


@jobs.command("list")
@for_jobs
def list_jobs(
    source: Source,
    status: Status = None,
    task: Task = None,
    queue: Queue = None,
    since: Since = None,
    until: Until = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option("--metadata", metavar="KEY=VALUE", help="Only with this metadata; may be repeated."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, max=10_000, help="At most so many.")] = 50,
    after: Annotated[
        str | None, typer.Option("--after", metavar="ID", help="Go on after this job: the last one of the page before.")
    ] = None,
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="In order of creation.")] = False,
    as_json: Json = False,
) -> None:
    """List jobs, the newest first; after them schedules.

    Example: jobify jobs list --status failed --status dead --since 2h
    """
    from jobify.cli.listing import find_page, print_page
    from jobify.cli.output import print_document, print_note
    from jobify.cli.session import open_session
    from jobify.cli.wait_reasons import read_cluster_state

    filters = Filters(status, task, queue, since, until, metadata)
    with open_session(*source, may_be_missing=True) as session:
        asked = filters.read(session.app)
        page = find_page(session, asked, limit=limit, after=after, is_newest_first=not oldest_first)
        cluster = read_cluster_state(session)
        if not page.all:
            explain_nothing(session, asked)
    following = page.all[-1].id if len(page.all) == limit else None
    if as_json:
        from jobify.cli.documents import job_document

        print_document({"jobs": [job_document(job, cluster) for job in page.all], "next": following})
        return
    print_page(page, cluster)
    if following is not None:
        print_note(f"There may be more: --after {following}")


@jobs.command("show")
@for_jobs
def show_job(
    source: Source,
    id: Annotated[str, typer.Argument(metavar="ID", help="The id of a job, or how it begins.", show_default=False)],
    messages: Annotated[
        int, typer.Option("--messages", metavar="N", min=0, help="The last N of what it has logged and published.")
    ] = 20,
    as_json: Json = False,
) -> None:
    """Show one job: attempts, progress, dependencies, arguments and result, its last messages, tracebacks.

    Example: jobify jobs show 01a04c5e
    """
    from jobify.cli.jobdetails import print_job, read_details
    from jobify.cli.lookup import job_id
    from jobify.cli.output import print_document
    from jobify.cli.session import open_session

    with open_session(*source) as session:
        details, zone = read_details(session, job_id(session, id), messages=messages), session.app.zone
    if as_json:
        print_document(details.document())
    else:
        print_job(details, zone)


@jobs.command("wait")
@for_jobs
def wait(
    source: Source,
    id: Annotated[str, typer.Argument(metavar="ID", help="The id of a job, or how it begins.", show_default=False)],
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="DURATION", help="At most 90 (seconds), 15m, 2h.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Wait until a job has ended. The exit code says how: 0 complete, 6 failed or dead, 7 cancelled, 8 not yet.

    Example: jobify jobs wait 01a04c5e --timeout 10m
    """
    from jobify.cli.following import END_CODES, wait_for
    from jobify.cli.lookup import job_id
    from jobify.cli.output import print_cells, print_document
    from jobify.cli.session import open_session
    from jobify.cli.time_format import seconds_of

    patience = None if timeout is None else seconds_of(timeout)
    with open_session(*source) as session:
        found = job_id(session, id)
        status, error = wait_for(session, found, patience)
    if as_json:
        print_document({"id": found, "status": status, "error": error})
    else:
        print_cells(*filter(None, (found, status, error)))
    raise typer.Exit(END_CODES[status])


@jobs.command("logs")
@for_jobs
def logs(
    source: Source,
    id: Annotated[str, typer.Argument(metavar="ID", help="The id of a job, or how it begins.", show_default=False)],
    is_followed: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job ends or Ctrl-C; also its progress.")
    ] = False,
    last: Annotated[
        int | None, typer.Option("--messages", "-n", metavar="N", min=0, help="Begin with the last N messages.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line, for scripts.")] = False,
) -> None:
    """Show what a job has logged and published.

    Example: jobify jobs logs -f 01a04c5e
    """
    from jobify.cli.following import follow, message_printer
    from jobify.cli.lookup import job_id
    from jobify.cli.output import print_note
    from jobify.cli.session import open_session

    with open_session(*source) as session:
        found = job_id(session, id)
        after = 0 if last is None else max(0, session.operations.last_message_number(found) - last)
        try:
            status = follow(
                session, found, after, message_printer(session.app.zone, as_json=as_json), until_end=is_followed
            )
        except KeyboardInterrupt:
            return
    if is_followed:
        print_note(f"{found} is {status}.")


_DEPENDENTS = "--with-dependents"


@jobs.command("cancel")
@for_jobs
@with_selection
def cancel_jobs(
    source: Source,
    choice: Selection,
    with_dependents: Annotated[
        bool, typer.Option(_DEPENDENTS, help="Also all that depends on them, whether or not they have ended.")
    ] = False,
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait for running jobs to stop.")
    ] = 10.0,
    as_json: Json = False,
) -> None:
    """Cancel jobs. Those that run are told to stop, and waited for.

    Filters choose among jobs that are pending or running, but no schedules.

    Example: jobify jobs cancel --status pending --queue mail
    """
    from jobify.cli.actions import cancel
    from jobify.cli.batches import cancel_matching
    from jobify.cli.output import result_printer
    from jobify.cli.session import open_session

    with open_session(*source) as session:
        if choice.is_by_filter:
            cancel_matching(session, choice, with_dependents=with_dependents, patience=wait, as_json=as_json)
            return
        with result_printer("jobs", as_json) as tell:
            cancel(session, choice.ids, tell, patience=wait, with_dependents=with_dependents)


@jobs.command("retry")
@for_jobs
@with_selection
def retry_jobs(
    source: Source,
    choice: Selection,
    with_dependents: Annotated[
        bool,
        typer.Option(f"{_DEPENDENTS}/--without-dependents", help="Also what was cancelled because of them."),
    ] = True,
    as_json: Json = False,
) -> None:
    """Put failed and dead jobs back, with a fresh budget of retries, and what was cancelled because of them.

    Example: jobify jobs retry --task charge --since 2h --error ConnectionError
    """
    from jobify.cli.actions import retry
    from jobify.cli.batches import retry_matching
    from jobify.cli.output import result_printer
    from jobify.cli.session import open_session

    with open_session(*source) as session:
        if choice.is_by_filter:
            retry_matching(session, choice, with_dependents=with_dependents, as_json=as_json)
            return
        with result_printer("jobs", as_json) as tell:
            retry(session, choice.ids, tell, with_dependents=with_dependents)


@jobs.command("delete")
@for_jobs
@with_selection
def delete_jobs(
    source: Source,
    choice: Selection,
    with_dependents: Annotated[bool, typer.Option(_DEPENDENTS, help="Also all that depends on them.")] = False,
    as_json: Json = False,
) -> None:
    """Delete jobs, with their results and their history. A running job has to be cancelled first.

    Filters choose among jobs that have ended (pending ones with --status pending), but no schedules.

    Example: jobify jobs delete --status cancelled --task import --until 30d
    """
    from jobify.cli.actions import confirm_deletion, delete
    from jobify.cli.batches import delete_matching
    from jobify.cli.output import result_printer
    from jobify.cli.session import open_session

    with open_session(*source) as session:
        if choice.is_by_filter:
            delete_matching(session, choice, with_dependents=with_dependents, as_json=as_json)
            return
        confirm_deletion(session, choice.ids, choice.is_sure)
        with result_printer("jobs", as_json) as tell:
            delete(session, choice.ids, tell, with_dependents=with_dependents)


@jobs.command("purge")
@for_jobs
def purge_jobs(
    source: Source,
    status: Status = None,
    task: Task = None,
    queue: Queue = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="DURATION", help="Only those created before: 12h, 30d.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete ended jobs: those whose retention is over; with filters, all that match."""
    from jobify.cli.actions import purge
    from jobify.cli.session import open_session

    with open_session(*source) as session:
        purge(session, Filters(status, task, queue, until=older_than), is_dry=dry_run, is_sure=yes, as_json=as_json)
