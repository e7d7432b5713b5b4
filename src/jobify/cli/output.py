"""Print results: a table on a terminal, lines with tabs in a pipe, one JSON document for a script.

A pipe gets no colours, no frames and no truncated text. rich is imported for a terminal only. Text from jobs is
escaped, because a control sequence in the message of an error must not act on the terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, TypeAlias

from jobify.cli.errors import CommandError
from jobify.runtime.escaping import escaped, escaped_json
from jobify.worker.exit_codes import ExitCode

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
    "report_problems",
    "result_printer",
    "terminal_width",
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
    """A terminal that is narrower than this omits the column, unless there is room for it."""
    is_number: bool = False
    style: str = ""
    is_kept: bool = False
    """Never truncated."""
    is_rest: bool = False
    """Free text, at most one column per table: it gets the width that the others leave, or lines of its own."""


Row: TypeAlias = Sequence[object]
"""The cells of one line of a table."""

PrintResult: TypeAlias = Callable[[str, str], None]
"""Prints the id of an object and its new status."""


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def print_document(document: object) -> None:
    """Print a JSON document."""
    print(escaped_json(json.dumps(document, ensure_ascii=False, indent=2 if is_terminal() else None, default=str)))


def print_record(document: object) -> None:
    """Print a JSON document on one line."""
    print(escaped_json(json.dumps(document, ensure_ascii=False, default=str)))


@contextmanager
def result_printer(what: str, as_json: bool, *, key: str = "id") -> Iterator[PrintResult]:
    """A function that prints the new status of each object that a command changes.

    It prints a line at once; or, as JSON, one document ``{what: [{key: …, "status": …}]}`` at the end, also when the
    command ends with an error.
    """
    rows: list[dict[str, str]] = []

    def print_result(id: str, status: str) -> None:
        if as_json:
            rows.append({key: id, "status": status})
        else:
            print_cells(id, status)

    try:
        yield print_result
    finally:
        if as_json:
            print_document({what: rows})


def print_cells(*cells: object) -> None:
    """Print cells with tabs between them."""
    print("\t".join(map(plain, cells)))


def print_table(columns: Sequence[Column], rows: Iterable[Row], *, nothing: str) -> None:
    """Print a table; for an empty one a terminal gets the sentence ``nothing``."""
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
    """Print names and values, one pair per line, without those whose value is None or empty.

    On a terminal, a value that does not fit beside its name stands below it.
    """
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
    """Print a text of one or more lines, on a terminal in this style."""
    shown = _printable(text)
    if is_terminal() and shown:
        from rich.text import Text

        _print_rich(Text(shown, style=style))
    else:
        print(shown)


def print_note(text: str) -> None:
    """Print a line for the user to standard error, because standard output is for the result."""
    print(plain(text), file=sys.stderr)


def report_problems(problems: Sequence[str], code: ExitCode = ExitCode.FAILED) -> None:
    """Print what could not be done, after the results. CommandError with the last problem, if there is one."""
    for problem in problems[:-1]:
        print_note(problem)
    if problems:
        raise CommandError(problems[-1], code)


def _printable(value: object) -> str:
    return "" if value is None else escaped(str(value), keep="\n\t")


def plain(value: object) -> str:
    """A value as the text of one cell on one line, because a message may hold line ends and tabs."""
    return escaped(" ".join(_printable(value).replace("\t", " ").splitlines()))


def terminal_width() -> int:
    """The width of the terminal in columns."""
    from rich.console import Console

    return Console().width


def _print_rich(renderable: Any) -> None:
    from rich.console import Console

    Console(highlight=False, soft_wrap=False).print(renderable, crop=False)
