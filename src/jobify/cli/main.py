"""The command, put together; and how it ends when something is wrong."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from jobify.cli.database import database
from jobify.cli.jobs import jobs
from jobify.cli.options import App, new_group
from jobify.cli.overview import stats, workers
from jobify.cli.queues import queues
from jobify.cli.schedules import schedules
from jobify.cli.serving import worker
from jobify.cli.top import top

__all__ = ("cli", "run")

DEBUG = "JOBIFY_DEBUG"

cli = new_group(
    "Workers for a Jobify app, and a look at its jobs.\n\n"
    "Exit codes: 0 done, 1 it could not be done, 2 wrong usage, 3 no such job, schedule or queue; a worker that is "
    "told to stop twice: 128 and the signal's number."
)
cli.command("worker")(worker)
cli.add_typer(jobs, name="jobs")
cli.add_typer(schedules, name="schedules")
cli.add_typer(queues, name="queues")
cli.command("workers")(workers)
cli.command("stats")(stats)
cli.command("top")(top)
cli.add_typer(database, name="db")


class _Setting:
    """What holds for a whole call."""

    def __init__(self, is_debug: bool) -> None:
        self.is_debug = is_debug


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        from jobify import __version__

        print(__version__)
        raise typer.Exit


@cli.callback()
def _global(
    context: typer.Context,
    app: App = None,
    debug: Annotated[bool, typer.Option("--debug", help=f"Tracebacks of errors. [env: {DEBUG}]")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    if app:
        from jobify.cli.locate import VARIABLE

        os.environ[VARIABLE] = app
    context.obj.is_debug = context.obj.is_debug or debug


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code. What goes wrong is one line on standard error."""
    from jobify.cli.errors import CommandError

    setting = _Setting(bool(os.environ.get(DEBUG)))
    try:
        cli(args=None if arguments is None else list(arguments), prog_name="jobify", obj=setting)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except CommandError as error:
        return _fail(error, error.code, setting)
    except Exception as error:
        return _fail(error, _code_of(error), setting)
    return 0


def _code_of(error: Exception) -> int:
    from jobify.exceptions import ConfigurationError, JobNotFoundError
    from jobify.exits import ExitCode

    if isinstance(error, ConfigurationError):
        return ExitCode.USAGE
    return ExitCode.NOT_FOUND if isinstance(error, JobNotFoundError) else ExitCode.FAILED


def _fail(error: Exception, code: int, setting: _Setting) -> int:
    if setting.is_debug:
        import traceback

        traceback.print_exception(error)
        return code
    from jobify.cli.errors import CommandError
    from jobify.exceptions import BaseJobifyError, shown

    kind = "" if isinstance(error, CommandError | BaseJobifyError) else f"{type(error).__name__}: "
    print(f"jobify: {kind}{' '.join(shown(error).split())}", file=sys.stderr)
    return code
