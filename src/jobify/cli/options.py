"""The options that several commands share, and how a command gets them."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import Annotated, Any, Concatenate, NamedTuple, ParamSpec, TypeAlias

import typer

from jobify.cli.conversion import PlainCommand, PlainGroup
from jobify.cli.environment import APP, APP_DIR, DATABASE

__all__ = (
    "App",
    "AppDir",
    "Database",
    "Json",
    "Queue",
    "Since",
    "Source",
    "Status",
    "Task",
    "Until",
    "Yes",
    "for_code",
    "for_jobs",
    "new_group",
)

P = ParamSpec("P")

App: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--app",
        help=f"The app, or a function that makes it, as package.module:name. [env: {APP}]",
        metavar="APP",
        show_default=False,
    ),
]
Database: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--database",
        help=f"The database file, or the URL of a database, instead of an app: no code is imported. [env: {DATABASE}]",
        metavar="PATH",
        show_default=False,
    ),
]
AppDir: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--app-dir",
        help=f"Import the app from this folder, instead of the current one. [env: {APP_DIR}]",
        metavar="DIR",
        show_default=False,
    ),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="One JSON document, for scripts.")]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Status: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--status", metavar="STATUS", help="pending, running, complete, failed, dead or cancelled; may be repeated."
    ),
]
Task: TypeAlias = Annotated[
    list[str] | None, typer.Option("--task", metavar="TASK", help="Only of this task; may be repeated.")
]
Queue: TypeAlias = Annotated[
    list[str] | None, typer.Option("--queue", metavar="QUEUE", help="Only of this queue; may be repeated.")
]
Since: TypeAlias = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Created at this time or later: 2h, 7d, 2026-01-31T12:00.")
]
Until: TypeAlias = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Created before this time.")]


class Source(NamedTuple):
    """Where a command finds the jobs: an app, or a database without its app."""

    app: str | None = None
    database: str | None = None


def for_jobs(command: Callable[Concatenate[Source, P], None]) -> Callable[..., None]:
    """Give a command the options ``--app``, ``--database`` and ``--app-dir``; it is called with a :class:`Source`.

    An option takes precedence over the environment, and ``--database`` over ``--app``.
    """

    def source_of(app: str | None, database: str | None) -> Source:
        return Source(app, database or (None if app else os.environ.get(DATABASE) or None))

    return _with_options(command, source_of, {"app": App, "database": Database})


def for_code(command: Callable[Concatenate[str | None, P], None]) -> Callable[..., None]:
    """Give a command that needs the code of the app the options ``--app`` and ``--app-dir``.

    It is called with the name of the app.
    """
    return _with_options(command, lambda app: app, {"app": App})


def _with_options(command: Callable[..., None], combine: Callable[..., object], added: Any) -> Callable[..., None]:
    """``command``, with its first parameter replaced by the options ``added`` and by ``--app-dir``."""
    added = {**added, "app_dir": AppDir}
    parameters = list(signature(command, eval_str=True).parameters.values())[1:]
    options = [Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=kind) for name, kind in added.items()]
    own = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in parameters]

    @wraps(command)
    def run(**given: Any) -> None:
        app_dir, *found = (given.pop(name) for name in ("app_dir", *(name for name in added if name != "app_dir")))
        if app_dir:
            os.environ[APP_DIR] = app_dir
        command(combine(*found), **given)

    # In the help these options stand before --json, which is the last one of most commands.
    place = len(own) - (own[-1:] != [] and own[-1].name == "as_json")
    call: Any = run
    call.__signature__ = signature(command).replace(
        parameters=[*own[:place], *options, *own[place:]], return_annotation=None
    )
    call.__annotations__ = {each.name: each.annotation for each in (*own, *options)}
    return run


class _Commands(typer.Typer):
    """A group whose commands convert what is plainly right."""

    def command(self, name: str | None = None, **options: Any) -> Callable[[Any], Any]:
        return super().command(name, cls=PlainCommand, **options)


class _ListsByDefault(PlainGroup):
    """``jobify jobs`` is ``jobify jobs list``, with all its options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        is_command = bool(args) and not args[0].startswith("-")
        return super().parse_args(ctx, args if is_command or args[:1] == ["--help"] else ["list", *args])


def new_group(text: str, *, lists_by_default: bool = False) -> typer.Typer:
    """A group of commands, or the whole command. Plain help, because it needs no rich and starts fast."""
    return _Commands(
        cls=_ListsByDefault if lists_by_default else PlainGroup,
        help=f"{text} Without a command: list." if lists_by_default else text,
        no_args_is_help=not lists_by_default,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
