"""The options that several commands have."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import typer
from typer.core import TyperGroup

__all__ = ("App", "Ids", "Json", "Queue", "Since", "Status", "Task", "Until", "Yes", "new_group")

App: TypeAlias = Annotated[
    str | None,
    typer.Option("--app", help="The app, as package.module:name. [env: JOBIFY_APP]", metavar="APP", show_default=False),
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
Ids: TypeAlias = Annotated[list[str], typer.Argument(metavar="ID", help="Ids of jobs.", show_default=False)]


class _ListsByDefault(TyperGroup):
    """``jobify jobs`` is ``jobify jobs list``, with all its options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        is_command = bool(args) and not args[0].startswith("-")
        return super().parse_args(ctx, args if is_command or args[:1] == ["--help"] else ["list", *args])


def new_group(text: str, *, lists_by_default: bool = False) -> typer.Typer:
    """A group of commands, or the whole command: plain help, which needs no rich and is there at once."""
    return typer.Typer(
        cls=_ListsByDefault if lists_by_default else None,
        help=f"{text} Without a command: list." if lists_by_default else text,
        no_args_is_help=not lists_by_default,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
