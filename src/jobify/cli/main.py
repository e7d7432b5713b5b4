"""The command, put together; and how it ends when something is wrong."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Annotated, cast

import typer

from jobify.cli.database import database
from jobify.cli.enqueuing import enqueue
from jobify.cli.errors import DEBUG, CommandError, print_error
from jobify.cli.health import health
from jobify.cli.jobs import jobs
from jobify.cli.options import APP, APP_DIR, DATABASE, App, AppDir, Database, environment, new_group
from jobify.cli.overview import stats, workers
from jobify.cli.queues import queues
from jobify.cli.schedules import schedules
from jobify.cli.tasks import tasks
from jobify.cli.top import top
from jobify.cli.worker_command import worker
from jobify.runtime.escaping import escaped
from jobify.worker.exit_codes import ExitCode

__all__ = ("cli", "run")

_DEBUG_OPTION = "--debug"
_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])
"""What all complaints about options and arguments are; typer has a name of its own for this kind only."""

cli = new_group(
    "Workers for a Jobify app, and a look at its jobs.\n\n"
    "Exit codes: 0 done, 1 it could not be done, 2 wrong usage, 3 no such job, schedule or queue; of a worker, "
    "also: 4 the database did not take all outcomes, 5 the database was deleted or replaced; told to stop twice: 128 "
    "and the signal's number. Of jobs wait: 6 the job failed or is dead, 7 it was cancelled, 8 it has not ended yet."
)
cli.command("worker")(worker)
cli.command("enqueue")(enqueue)
cli.command("tasks")(tasks)
cli.add_typer(jobs, name="jobs")
cli.add_typer(schedules, name="schedules")
cli.add_typer(queues, name="queues")
cli.command("workers")(workers)
cli.command("stats")(stats)
cli.command("top")(top)
cli.command("health")(health)
cli.add_typer(database, name="db")


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        from jobify import __version__

        print(__version__)
        raise typer.Exit


@cli.callback()
def _global(
    app: App = None,
    database: Database = None,
    app_dir: AppDir = None,
    debug: Annotated[bool, typer.Option(_DEBUG_OPTION, help=f"Tracebacks of errors. [env: {DEBUG}]")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    if app:
        os.environ.pop(DATABASE, None)
    for name, value in ((APP, app), (DATABASE, database), (APP_DIR, app_dir)):
        if value:
            os.environ[name] = value


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code. What goes wrong is one line on standard error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    words = [word for word in given if word != _DEBUG_OPTION]  # it may stand anywhere
    with environment(), _debugging() if words != given else nullcontext():
        return _run(words)


@contextmanager
def _debugging() -> Iterator[None]:
    """Have tracebacks shown, by workers, too, which inherit the environment."""
    before = os.environ.get(DEBUG, "")
    os.environ[DEBUG] = "1"
    try:
        yield
    finally:
        os.environ[DEBUG] = before


def _run(words: list[str]) -> int:
    try:
        code = cli(args=words, prog_name="jobify", standalone_mode=False)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except typer.Abort:
        return print_error(CommandError("Nothing was done."))
    except _UsageError as error:
        return _print_usage_error(error)
    except Exception as error:
        return print_error(error)
    return code if isinstance(code, int) else ExitCode.DONE


def _print_usage_error(error: typer.BadParameter) -> int:
    """Say what is wrong with the words of a command; where there are none, show its page of help."""
    said = error.format_message()
    if "\n" not in said:
        path = error.ctx.command_path if error.ctx is not None else "jobify"
        said = f"jobify: {said}{'' if said.endswith(('.', '?')) else '.'} See {path} --help."
    print(escaped(said, keep="\n\t"), file=sys.stderr)
    return ExitCode.USAGE
