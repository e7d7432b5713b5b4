"""The command ``jobify``: all commands combined, and how errors end it.

A call imports the module of its own command only; the help needs them all.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import typer

from jobify.cli.environment import APP, APP_DIR, DATABASE, DEBUG, debugging, restored_environment
from jobify.cli.errors import CommandError, print_error
from jobify.cli.options import App, AppDir, Database, new_group
from jobify.runtime.escaping import escaped
from jobify.worker.exit_codes import ExitCode

if TYPE_CHECKING:
    cli: typer.Typer
    """The command with all its commands; made when it is first used."""

__all__ = ("cli", "command_line", "run")

_DEBUG_OPTION: Final = "--debug"
_VALUE_OPTIONS: Final = ("--app", "--database", "--app-dir")
"""Options before the command that a value follows."""
_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])
"""The base class of all errors about options and arguments, which typer does not export."""

_HELP: Final = (
    "Run workers for a Jobify app, and inspect and change its jobs.\n\n"
    "Exit codes: 0 done, 1 it could not be done, 2 wrong usage, 3 no such job, schedule or queue; of a worker, "
    "also: 4 the database did not take all outcomes, 5 the database was deleted or replaced, 128 and the signal's "
    "number after a second signal to stop. Of jobs wait: 6 the job failed or is dead, 7 it was cancelled, 8 it has not "
    "ended yet."
)
_COMMANDS: Final = {
    "worker": "commands.worker:worker",
    "enqueue": "commands.enqueue:enqueue",
    "tasks": "commands.overview:tasks",
    "workers": "commands.overview:workers",
    "stats": "commands.overview:stats",
    "top": "top.command:top",
    "health": "commands.health:health",
    "jobs": "commands.jobs:jobs",
    "schedules": "commands.schedules:schedules",
    "queues": "commands.queues:queues",
    "db": "commands.database:database",
}
"""The module of each command or group of commands in this package, in the order of the help."""


def __getattr__(name: str) -> Any:
    if name != "cli":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()["cli"] = made = command_line(_COMMANDS)
    return made


def command_line(names: Iterable[str]) -> typer.Typer:
    """The command with only these of its commands."""
    command = new_group(_HELP)
    command.callback()(_global)
    for name in names:
        module, _, attribute = _COMMANDS[name].partition(":")
        found = getattr(import_module(f"jobify.cli.{module}"), attribute)
        if isinstance(found, typer.Typer):
            command.add_typer(found, name=name)
        else:
            command.command(name)(found)
    return command


def _needed(arguments: Sequence[str]) -> Iterable[str]:
    """The command that the arguments begin with; all of them where the help or a suggestion may list them."""
    words = iter(arguments)
    for word in words:
        if word in _VALUE_OPTIONS:
            next(words, None)
        elif not word.startswith("-"):
            return (word,) if word in _COMMANDS else _COMMANDS
    return _COMMANDS


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        from jobify import __version__

        print(__version__)
        raise typer.Exit


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
        code = command_line(_needed(arguments))(args=arguments, prog_name="jobify", standalone_mode=False)
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
        if message.endswith("(list)") and path.endswith((" tasks", " workers")):  # jobs, schedules and queues have one
            message = f"{path} is itself the list: leave out 'list'."
        message = f"jobify: {message}{'' if message.endswith(('.', '?')) else '.'} See {path} --help."
    print(escaped(message, keep="\n\t"), file=sys.stderr)
    return ExitCode.USAGE
