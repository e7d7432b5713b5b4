"""``jobify queues …``: list, pause, resume."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from jobify.cli.options import Json, Source, for_jobs, new_group

if TYPE_CHECKING:
    from jobify.cli.session import Session

__all__ = ("known_queues", "queues", "unknown_queue")

queues = new_group("List, pause and resume queues.", lists_by_default=True)
Names = Annotated[list[str], typer.Argument(metavar="QUEUE", help="Names of queues.", show_default=False)]


@queues.command("list")
@for_jobs
def list_queues(source: Source, as_json: Json = False) -> None:
    """List all queues."""
    from jobify.cli.documents import queue_document, queue_note
    from jobify.cli.output import Column, print_document, print_table
    from jobify.cli.session import open_session
    from jobify.model.public_status import PUBLIC_STATUSES

    with open_session(source, may_be_missing=True) as session:
        found = session.app.queues()
    if as_json:
        print_document({"queues": [queue_document(queue) for queue in found]})
        return
    columns = (
        Column("QUEUE"),
        *(Column(word.upper(), is_number=True, from_width=0 if word in _SHORT else 100) for word in PUBLIC_STATUSES),
        Column("WORKERS", is_number=True),
        Column("NOTE", style="yellow", is_rest=True),
    )
    rows = [
        (queue.name, *(queue.counts[word] for word in PUBLIC_STATUSES), queue.workers, queue_note(queue))
        for queue in found
    ]
    print_table(columns, rows, nothing="No queues.")


_SHORT = ("pending", "running", "failed", "dead")


@queues.command("pause")
@for_jobs
def pause(
    source: Source,
    names: Names,
    create: Annotated[bool, typer.Option("--create", help="Also a queue without jobs that no worker names.")] = False,
    as_json: Json = False,
) -> None:
    """Start no more jobs of these queues, in any worker, until resume. Running jobs go on.

    Exit code 3 if there is no such queue, because a misspelt name would stop nothing.

    Example: jobify queues pause mail
    """
    from jobify.cli.session import open_session

    with open_session(source) as session:
        _change(session, names, session.app.pause_queue, "paused", is_any=create, as_json=as_json)


@queues.command("resume")
@for_jobs
def resume(source: Source, names: Names, as_json: Json = False) -> None:
    """Undo pause.

    Example: jobify queues resume mail
    """
    from jobify.cli.session import open_session

    with open_session(source) as session:
        _change(session, names, session.app.resume_queue, "resumed", is_any=False, as_json=as_json)


def _change(
    session: Session, names: list[str], change: Callable[[str], None], done: str, *, is_any: bool, as_json: bool
) -> None:
    """Pause or resume the queues that exist, then report the others."""
    from jobify.cli.commands.queues import known_queues, unknown_queue
    from jobify.cli.output import report_problems, result_printer
    from jobify.worker.exit_codes import ExitCode

    known, problems = known_queues(session), []
    with result_printer("queues", as_json, key="name") as print_result:
        for name in dict.fromkeys(names):
            if is_any or name in known:
                change(name)
                print_result(name, done)
            else:
                problems.append(unknown_queue(name, known))
    advice = " To pause it anyway: --create." if problems and done == "paused" else ""
    report_problems([*problems[:-1], *(f"{problem}{advice}" for problem in problems[-1:])], ExitCode.NOT_FOUND)


def unknown_queue(name: str, known: frozenset[str]) -> str:
    """The message about a name that is not known. Pausing a misspelt name would seem to work."""
    near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.6)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return f"{name}: no job is in such a queue, no worker names it, and it is not paused.{hint}"


def known_queues(session: Session) -> frozenset[str]:
    """The queues that have jobs, are paused, or are named by a living worker or by a task of the app.

    A worker that serves every queue names none, because it would serve a misspelt one as well.
    """
    from jobify.model.task_options import DEFAULT_QUEUE

    declared = {route.options.get("queue", DEFAULT_QUEUE) for _, route in session.app.walk()}
    return frozenset(queue.name for queue in session.app.queues()) | declared
