"""Answers, shown: a table on a terminal, lines with tabs in a pipe, one JSON document for a script.

In a pipe there is nothing that a program would have to take off again: no colours, no frames, nothing cut short. rich
is imported for a terminal only. What jobs have said reaches a terminal as text: an escape sequence in the message of an
error must not move its cursor, or worse.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from jobify.cli.columns import STATUS_STYLES, Column, Row
from jobify.runtime.escaping import escaped, escaped_json

__all__ = (
    "STATUS_STYLES",
    "Column",
    "PrintResult",
    "Row",
    "is_terminal",
    "plain",
    "print_cells",
    "print_document",
    "print_facts",
    "print_line",
    "print_note",
    "print_record",
    "print_table",
    "result_printer",
    "terminal_width",
)

PrintResult: TypeAlias = Callable[[str, str], None]
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
def result_printer(what: str, as_json: bool, *, key: str = "id") -> Iterator[PrintResult]:
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
    print("\t".join(map(plain, cells)))


def print_table(columns: Sequence[Column], rows: Iterable[Row], *, nothing: str) -> None:
    """A table; on a terminal the sentence ``nothing`` in the place of an empty one."""
    listed = list(rows)
    if not is_terminal():
        print("\t".join(column.name.lower() for column in columns))
        for row in listed:
            print("\t".join(plain(cell) for cell in row))
    elif listed:
        from jobify.cli.layout import lay_out

        cells = [[plain(cell) for cell in row] for row in listed]
        for line in lay_out(columns, cells, terminal_width()):
            _print_rich(line)
    else:
        print(nothing)


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Names and values, one a line; a value that is None or empty is left out. On a terminal a value that does not fit
    beside its name stands below it."""
    known = [(name, plain(value)) for name, value in facts if value is not None and value != ""]
    wide = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        if is_terminal():
            _print_fact(name, value, wide)
        else:
            print(f"{name}\t{value}")


def _print_fact(name: str, value: str, wide: int) -> None:
    from rich.padding import Padding
    from rich.text import Text

    style = STATUS_STYLES.get(value, "") if name == "status" else ""
    beside = Text.assemble((f"{name:<{wide}}  ", "dim"), (value, style))
    if beside.cell_len <= terminal_width():
        _print_rich(beside)
    else:
        _print_rich(Text(name, style="dim"))
        _print_rich(Padding(Text(value, style=style), (0, 0, 0, 2)))


def print_line(text: str = "", style: str = "") -> None:
    """A line, or a text of several, in a style if somebody looks."""
    shown = _printable(text)
    if is_terminal() and shown:
        from rich.text import Text

        _print_rich(Text(shown, style=style))
    else:
        print(shown)


def print_note(text: str) -> None:
    """A line for people, beside the answer: on standard error."""
    print(plain(text), file=sys.stderr)


def _printable(value: object) -> str:
    return "" if value is None else escaped(str(value), keep="\n\t")


def plain(value: object) -> str:
    """A value as a text on one line, and one cell: a message may have line ends and tabs in it."""
    return escaped(" ".join(_printable(value).replace("\t", " ").splitlines()))


def terminal_width() -> int:
    """Columns of the terminal."""
    from rich.console import Console

    return Console().width


def _print_rich(renderable: Any) -> None:
    from rich.console import Console

    Console(highlight=False, soft_wrap=False).print(renderable, crop=False)
