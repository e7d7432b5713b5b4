"""``jobify jobs …``: list, show, wait, logs, cancel, retry, delete, purge."""

from __future__ import annotations

from typing import Annotated

import typer

from jobify.cli.jobs.selection import Filters, Selection, explain_nothing, with_selection
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
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, max=10_000, help="At most N jobs.")] = 50,
    after: Annotated[
        str | None,
        typer.Option("--after", metavar="ID", help="Continue after this job, the last of a page."),
    ] = None,
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="In order of creation.")] = False,
    as_json: Json = False,
) -> None:
    """List jobs, newest first, and then schedules.

    Example: jobify jobs list --status failed --status dead --since 2h
    """
    from jobify.cli.jobs.listing import find_page, print_page
    from jobify.cli.output import print_document, print_note
    from jobify.cli.session import open_session

    filters = Filters(status, task, queue, since, until, metadata)
    with open_session(source, may_be_missing=True) as session:
        query = filters.read(session.app)
        page = find_page(session, query, limit=limit, after=after, is_newest_first=not oldest_first)
        cluster = session.cluster_state(page.all)
        if not page.all:
            explain_nothing(session, query)
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
    id: Annotated[str, typer.Argument(metavar="ID", help="The id of a job, or its beginning.", show_default=False)],
    messages: Annotated[
        int,
        typer.Option("--messages", metavar="N", min=0, help="The last N messages of its log and its publications."),
    ] = 20,
    as_json: Json = False,
) -> None:
    """Show one job: attempts, progress, dependencies, arguments, result, last messages and tracebacks.

    Example: jobify jobs show 01a04c5e
    """
    from jobify.cli.jobs.details import print_job, read_details
    from jobify.cli.output import print_document
    from jobify.cli.session import job_id, open_session

    with open_session(source) as session:
        details, zone = read_details(session, job_id(session, id), messages=messages), session.app.zone
    if as_json:
        print_document(details.document())
    else:
        print_job(details, zone)


@jobs.command("wait")
@for_jobs
def wait(
    source: Source,
    id: Annotated[str, typer.Argument(metavar="ID", help="The id of a job, or its beginning.", show_default=False)],
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="DURATION", help="At most 90 (seconds), 15m, 2h.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Wait until a job has ended. Exit codes: 0 complete, 6 failed or dead, 7 cancelled, 8 not ended yet.

    Example: jobify jobs wait 01a04c5e --timeout 10m
    """
    from jobify.cli.jobs.listing import END_CODES, wait_for
    from jobify.cli.output import print_cells, print_document
    from jobify.cli.session import job_id, open_session
    from jobify.cli.time_format import seconds_of

    seconds = None if timeout is None else seconds_of(timeout)
    with open_session(source) as session:
        found = job_id(session, id)
        status, error = wait_for(session, found, seconds)
    if as_json:
        print_document({"id": found, "status": status, "error": error})
    else:
        print_cells(*filter(None, (found, status, error)))
    raise typer.Exit(END_CODES[status])


@jobs.command("logs")
@for_jobs
def logs(
    source: Source,
    id: Annotated[str, typer.Argument(metavar="ID", help="The id of a job, or its beginning.", show_default=False)],
    is_followed: Annotated[
        bool, typer.Option("--follow", "-f", help="Continue until the job ends or Ctrl-C; also print its progress.")
    ] = False,
    last: Annotated[
        int | None, typer.Option("--messages", "-n", metavar="N", min=0, help="Begin with the last N messages.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document per line, for scripts.")] = False,
) -> None:
    """Show what a job has logged and published.

    Example: jobify jobs logs -f 01a04c5e
    """
    from jobify.cli.jobs.listing import follow, message_printer
    from jobify.cli.output import print_note
    from jobify.cli.session import job_id, open_session

    with open_session(source) as session:
        found = job_id(session, id)
        after = 0 if last is None else max(0, session.operations.reader.last_message_number(found) - last)
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
    selection: Selection,
    with_dependents: Annotated[
        bool, typer.Option(_DEPENDENTS, help="Also all jobs that depend on them, whether or not they have ended.")
    ] = False,
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait for running jobs to stop.")
    ] = 10.0,
    as_json: Json = False,
) -> None:
    """Cancel jobs. Running jobs get a request to stop, and the command waits for them.

    Filters select pending and running jobs, but no schedules.

    Example: jobify jobs cancel --status pending --queue mail
    """
    from jobify.cli.jobs.changes import cancel, cancel_matching
    from jobify.cli.output import result_printer
    from jobify.cli.session import open_session

    with open_session(source) as session:
        if selection.is_by_filter:
            cancel_matching(session, selection, with_dependents=with_dependents, timeout=wait, as_json=as_json)
            return
        with result_printer("jobs", as_json) as print_result:
            cancel(session, selection.ids, print_result, timeout=wait, with_dependents=with_dependents)


@jobs.command("retry")
@for_jobs
@with_selection
def retry_jobs(
    source: Source,
    selection: Selection,
    with_dependents: Annotated[
        bool,
        typer.Option(f"{_DEPENDENTS}/--without-dependents", help="Also the jobs that were cancelled because of them."),
    ] = True,
    as_json: Json = False,
) -> None:
    """Retry failed and dead jobs, with all their retries, and the jobs that were cancelled because of them.

    Example: jobify jobs retry --task charge --since 2h --error ConnectionError
    """
    from jobify.cli.jobs.changes import retry, retry_matching
    from jobify.cli.output import result_printer
    from jobify.cli.session import open_session

    with open_session(source) as session:
        if selection.is_by_filter:
            retry_matching(session, selection, with_dependents=with_dependents, as_json=as_json)
            return
        with result_printer("jobs", as_json) as print_result:
            retry(session, selection.ids, print_result, with_dependents=with_dependents)


@jobs.command("delete")
@for_jobs
@with_selection
def delete_jobs(
    source: Source,
    selection: Selection,
    with_dependents: Annotated[bool, typer.Option(_DEPENDENTS, help="Also all jobs that depend on them.")] = False,
    as_json: Json = False,
) -> None:
    """Delete jobs with their results and history. Cancel a running job first.

    Filters select ended jobs (pending ones with --status pending), but no schedules.

    Example: jobify jobs delete --status cancelled --task import --until 30d
    """
    from jobify.cli.jobs.changes import confirm_deletion, delete, delete_matching
    from jobify.cli.output import result_printer
    from jobify.cli.session import open_session

    with open_session(source) as session:
        if selection.is_by_filter:
            delete_matching(session, selection, with_dependents=with_dependents, as_json=as_json)
            return
        confirm_deletion(session, selection.ids, selection.is_sure)
        with result_printer("jobs", as_json) as print_result:
            delete(session, selection.ids, print_result, with_dependents=with_dependents)


@jobs.command("purge")
@for_jobs
def purge_jobs(
    source: Source,
    status: Status = None,
    task: Task = None,
    queue: Queue = None,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="DURATION", help="Only jobs older than 12h, 30d."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print how many.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete the ended jobs whose retention is over; with filters, all ended jobs that match."""
    from jobify.cli.jobs.changes import purge
    from jobify.cli.session import open_session

    with open_session(source) as session:
        purge(session, Filters(status, task, queue, until=older_than), is_dry=dry_run, is_sure=yes, as_json=as_json)
