"""The options that several commands share, and how a command gets them."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from functools import partial, wraps
from inspect import Parameter, signature
from typing import Annotated, Any, Concatenate, Final, NamedTuple, ParamSpec, TypeAlias, get_args, get_origin

import typer
from typer.core import TyperCommand, TyperGroup

from jobify.cli.environment import APP, APP_DIR, DATABASE

__all__ = (
    "App",
    "AppDir",
    "Database",
    "Json",
    "PlainCommand",
    "PlainGroup",
    "Queue",
    "Since",
    "Source",
    "Status",
    "Task",
    "Until",
    "Yes",
    "converting",
    "for_code",
    "for_jobs",
    "new_group",
)


# -- conversion --------------------------------------------------------------------------------------------------------
# Values of options and arguments, without the converter of typer where a value is plainly right.
#
# Newer releases of typer convert every value with pydantic, whose import alone takes longer than most commands. A value
# that is not plainly right goes to typer, which converts it or words the error.

_INTEGER: Final = re.compile(r"[0-9]{1,15}", re.ASCII)
_FLOAT: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)


class PlainCommand(TyperCommand):
    """A command whose parameters convert what is plainly right."""

    def get_params(self, ctx: Any) -> list[Any]:
        return converting(super().get_params(ctx))


class PlainGroup(TyperGroup):
    """The same for a group of commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        return converting(super().get_params(ctx))


def converting(parameters: list[Any]) -> list[Any]:
    """The same parameters; from now on they convert what is plainly right."""
    for each in parameters:
        has_converter = hasattr(each, "get_runtime_param") and hasattr(each, "type_descriptor")
        if has_converter and "get_runtime_param" not in vars(each):
            each.get_runtime_param = partial(_PlainConverter, each, each.get_runtime_param)
    return parameters


class _PlainConverter:
    """Converts for one parameter, in the place of typer's own converter."""

    def __init__(self, parameter: Any, typers_own: Callable[[], Any]) -> None:
        self._typers_own = typers_own
        self._kind = parameter.type_descriptor.annotation
        self._is_list = parameter.multiple or parameter.nargs == -1
        least, most = getattr(parameter, "min", None), getattr(parameter, "max", None)
        self._least = -math.inf if least is None else least
        self._most = math.inf if most is None else most

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value as its type."""
        if value is None:
            return () if self._is_list else None
        if self._kind is str and isinstance(value, str):
            return value
        if self._kind is int and (number := self._number(value, int, _INTEGER)) is not None:
            return number
        if self._kind is float and (number := self._number(value, float, _FLOAT)) is not None:
            return number
        if self._is_texts(value):
            return list(value)
        return self._typers_own().coerce(value, param=param, ctx=ctx)

    def _number(self, value: Any, kind: type[float], shape: re.Pattern[str]) -> float | None:
        """The number, if it is one of this kind that the option allows."""
        number: Any = kind(value) if isinstance(value, str) and shape.fullmatch(value) else value
        return number if type(number) is kind and self._least <= number <= self._most else None

    def _is_texts(self, value: Any) -> bool:
        is_list = self._is_list and isinstance(value, list | tuple)
        return is_list and get_origin(self._kind) is list and get_args(self._kind) == (str,)


# -- options -----------------------------------------------------------------------------------------------------------

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
