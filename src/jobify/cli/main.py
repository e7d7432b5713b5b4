"""The command ``jobify``: all commands combined, and how errors end it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Annotated, cast

import typer

from jobify.cli.commands.database import database
from jobify.cli.commands.enqueue import enqueue
from jobify.cli.commands.health import health
from jobify.cli.commands.jobs import jobs
from jobify.cli.commands.overview import stats, tasks, workers
from jobify.cli.commands.queues import queues
from jobify.cli.commands.schedules import schedules
from jobify.cli.commands.worker import worker
from jobify.cli.environment import APP, APP_DIR, DATABASE, DEBUG, debugging, restored_environment
from jobify.cli.errors import CommandError, print_error
from jobify.cli.options import App, AppDir, Database, new_group
from jobify.cli.top.command import top
from jobify.runtime.escaping import escaped
from jobify.worker.exit_codes import ExitCode

__all__ = ("cli", "run")

_DEBUG_OPTION = "--debug"
_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])
"""The base class of all errors about options and arguments, which typer does not export."""

cli = new_group(
    "Run workers for a Jobify app, and inspect and change its jobs.\n\n"
    "Exit codes: 0 done, 1 it could not be done, 2 wrong usage, 3 no such job, schedule or queue; of a worker, "
    "also: 4 the database did not take all outcomes, 5 the database was deleted or replaced, 128 and the signal's "
    "number after a second signal to stop. Of jobs wait: 6 the job failed or is dead, 7 it was cancelled, 8 it has not "
    "ended yet."
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
    debug: Annotated[bool, typer.Option(_DEBUG_OPTION, help=f"Print tracebacks of errors. [env: {DEBUG}]")] = False,
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
    """Run the command and return its exit code. An error is one line on standard error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    without_debug = [argument for argument in given if argument != _DEBUG_OPTION]  # it may stand anywhere
    with restored_environment(), debugging() if without_debug != given else nullcontext():
        return _run(without_debug)


def _run(arguments: list[str]) -> int:
    try:
        code = cli(args=arguments, prog_name="jobify", standalone_mode=False)
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
    """Print what is wrong with the arguments; without arguments, the message is the help page."""
    message = error.format_message()
    if "\n" not in message:
        path = error.ctx.command_path if error.ctx is not None else "jobify"
        message = f"jobify: {message}{'' if message.endswith(('.', '?')) else '.'} See {path} --help."
    print(escaped(message, keep="\n\t"), file=sys.stderr)
    return ExitCode.USAGE
