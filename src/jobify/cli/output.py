"""Answers, shown: a table on a terminal, lines with tabs in a pipe, one JSON document for a script.

In a pipe there is nothing that a program would have to take off again: no colours, no frames, nothing cut short. rich
is imported for a terminal only. What jobs have said reaches a terminal as text: an escape sequence in the message of an
error must not move its cursor, or worse.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, TypeAlias

from jobify.escaping import escaped, escaped_json

__all__ = (
    "STATUS_STYLES",
    "Answer",
    "Column",
    "answering",
    "is_terminal",
    "print_cells",
    "print_document",
    "print_facts",
    "print_line",
    "print_record",
    "print_table",
    "remark",
)

STATUS_STYLES: Final[Mapping[str, str]] = {
    "pending": "cyan",
    "running": "bold blue",
    "complete": "green",
    "failed": "red",
    "dead": "bold red",
    "cancelled": "yellow",
}


class Column(NamedTuple):
    """A column of a table."""

    name: str
    from_width: int = 0
    """Terminals that are narrower than this do without it."""
    is_number: bool = False
    style: str = ""
    is_kept: bool = False
    """Never cut short."""
    is_rest: bool = False
    """Free text: it gets the room that the others leave, and is cut first."""


Row = Sequence[object]
Answer: TypeAlias = Callable[[str, str], None]
"""Tells the id of something, and what became of it."""


def is_terminal() -> bool:
    """Whether people look at what is printed."""
    return sys.stdout.isatty()


def print_document(document: object) -> None:
    """One JSON document."""
    print(escaped_json(json.dumps(document, ensure_ascii=False, indent=2 if is_terminal() else None, default=str)))


def print_record(document: object) -> None:
    """One JSON document on one line."""
    print(escaped_json(json.dumps(document, ensure_ascii=False, default=str)))


@contextmanager
def answering(what: str, as_json: bool, *, key: str = "id") -> Iterator[Answer]:
    """A function to tell what became of each of the things that a command was given: a line for each, at once; or one
    JSON document, ``{what: [{key: …, "status": …}]}``, at the end, even if that is an error."""
    rows: list[dict[str, str]] = []

    def answer(id: str, status: str) -> None:
        if as_json:
            rows.append({key: id, "status": status})
        else:
            print_cells(id, status)

    try:
        yield answer
    finally:
        if as_json:
            print_document({what: rows})


def print_cells(*cells: object) -> None:
    """A line of cells with tabs between them."""
    print("\t".join(map(_plain, cells)))


def print_table(columns: Sequence[Column], rows: Iterable[Row], *, nothing: str) -> None:
    """A table; on a terminal the sentence ``nothing`` in the place of an empty one."""
    listed = list(rows)
    if not is_terminal():
        print("\t".join(column.name.lower() for column in columns))
        for row in listed:
            print("\t".join(_plain(cell) for cell in row))
    elif listed:
        _print_rich(rich_table(columns, listed, width=_width()))
    else:
        print(nothing)


def rich_table(columns: Sequence[Column], rows: Sequence[Row], *, width: int) -> Any:
    """The table for a terminal of this width: a :class:`rich.table.Table`."""
    from rich.table import Table
    from rich.text import Text

    has_rest = any(column.is_rest for column in columns)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0), expand=has_rest)
    shown = [number for number, column in enumerate(columns) if width >= column.from_width]
    for number in shown:
        column = columns[number]
        table.add_column(
            column.name,
            justify="right" if column.is_number else "left",
            style=column.style or None,
            no_wrap=True,
            overflow="ellipsis",
            min_width=_longest(rows, number) if column.is_kept else len(column.name),
            max_width=None if column.is_kept or column.is_rest else max(12, width // 5),
            ratio=1 if column.is_rest else None,
        )
    for row in rows:
        cells = (_plain(row[number]) for number in shown)
        table.add_row(*(Text(cell, style=STATUS_STYLES.get(cell, "")) for cell in cells))
    return table


def _longest(rows: Sequence[Row], number: int) -> int:
    return max(len(_plain(row[number])) for row in rows)


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Names and values, one a line; a value that is None or empty is left out."""
    known = [(name, _plain(value)) for name, value in facts if value is not None and value != ""]
    wide = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        if is_terminal():
            from rich.text import Text

            style = STATUS_STYLES.get(value, "") if name == "status" else ""
            _print_rich(Text.assemble((f"{name:<{wide}}  ", "dim"), (value, style)))
        else:
            print(f"{name}\t{value}")


def print_line(text: str = "", style: str = "") -> None:
    """A line, or a text of several, in a style if somebody looks."""
    shown = _shown(text)
    if is_terminal() and shown:
        from rich.text import Text

        _print_rich(Text(shown, style=style))
    else:
        print(shown)


def remark(text: str) -> None:
    """A line for people, beside the answer: on standard error."""
    print(_plain(text), file=sys.stderr)


def _shown(value: object) -> str:
    return "" if value is None else escaped(str(value), keep="\n\t")


def _plain(value: object) -> str:
    """On one line, and one cell: a message may have line ends and tabs in it."""
    return escaped(" ".join(_shown(value).replace("\t", " ").splitlines()))


def _width() -> int:
    from rich.console import Console

    return Console().width


def _print_rich(renderable: Any) -> None:
    from rich.console import Console

    Console(highlight=False, soft_wrap=False).print(renderable)
