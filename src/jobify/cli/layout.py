"""The layout of tables on terminals of any width, without side effects.

The free text of a row, such as an error, is mostly what matters. So it must stay readable. If there is too little room
beside the other cells, it gets lines of its own below them. If the other cells do not fit into a line either, the row
is a block: its first cell, the others, and the free text.

::

    ID     STATUS  TASK       NOTE               wide enough
    019a…  failed  pack       ValueError: no box

    ID     STATUS  TASK                          narrow
    019a…  failed  pack
      ValueError: no box

    019a…                                        very narrow
      failed  pack
      ValueError: no box
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

from rich.cells import cell_len, get_character_cell_size
from rich.text import Text

from jobify.cli.output import STATUS_STYLES, Column

__all__ = ("lay_out", "wrapped")

Cells: TypeAlias = Sequence[str]

_GAP: Final = 2
_MIN_TEXT: Final = 40
"""Characters of free text that must fit beside the rest of the row."""
_MAX_TEXT: Final = 150
"""Characters of free text that are shown on lines of its own."""
_MAX_LINES: Final = 4
_MIN_COLUMN: Final = 12
_FAILURES: Final = frozenset({"failed", "dead"})


class _Shown(NamedTuple):
    """A column that is shown, with its width."""

    number: int
    column: Column
    width: int


def lay_out(columns: Sequence[Column], rows: Sequence[Cells], width: int) -> list[Text]:
    """The lines of a table with at least one row. Only columns that are never truncated may be wider."""
    free = next((number for number, column in enumerate(columns) if column.is_rest), None)
    places = [_place(number, column, rows, width) for number, column in enumerate(columns) if number != free]
    shown = [place for place in places if width >= place.column.from_width]
    room = width - _total(shown)
    longest = 0 if free is None else max(cell_len(row[free]) for row in rows)
    if room >= min(longest, _MIN_TEXT) + (_GAP if longest else 0):
        return [*_table(shown, rows, columns, free, width)]
    if room < 0:
        return [line for row in rows for line in _block(shown, row, columns, free, width)]
    for place in sorted(places, key=lambda place: place.column.from_width):
        if place not in shown and _total([*shown, place]) <= width:
            shown = sorted([*shown, place], key=lambda place: place.number)
    lines = [_head(shown)]
    for row in rows:
        lines += [_line(shown, row), *_below(row, columns, free, width)]
    return lines


def _place(number: int, column: Column, rows: Sequence[Cells], width: int) -> _Shown:
    wide = max(len(column.name), *(cell_len(row[number]) for row in rows))
    is_cut = not (column.is_kept or column.is_number)
    return _Shown(number, column, min(wide, max(_MIN_COLUMN, width // 5, len(column.name))) if is_cut else wide)


def _total(places: Sequence[_Shown]) -> int:
    return sum(place.width for place in places) + _GAP * max(0, len(places) - 1)


def _table(
    places: Sequence[_Shown], rows: Sequence[Cells], columns: Sequence[Column], free: int | None, width: int
) -> Iterator[Text]:
    is_said = free is not None and any(row[free] for row in rows)
    head = _head(places)
    if is_said and free is not None:
        head.pad_right(_total(places) + _GAP - head.cell_len)
        head.append(columns[free].name, style="bold")
    yield head
    for row in rows:
        line = _line(places, row)
        if free is not None and row[free]:
            line.pad_right(_total(places) + _GAP - line.cell_len)
            line.append(row[free], style=_style_of_text(row, columns[free]))
        yield _fitted(line, width)


def _head(places: Sequence[_Shown]) -> Text:
    line = Text()
    for index, place in enumerate(places):
        name = place.column.name
        line.append(_justified(name, place, is_last=index == len(places) - 1), style="bold")
    return line


def _line(places: Sequence[_Shown], row: Cells) -> Text:
    line = Text()
    for index, place in enumerate(places):
        cell = Text(row[place.number])
        cell.truncate(place.width, overflow="ellipsis")
        text = _justified(cell.plain, place, is_last=index == len(places) - 1)
        line.append(text, style=STATUS_STYLES.get(row[place.number], place.column.style))
    return line


def _justified(text: str, place: _Shown, *, is_last: bool) -> str:
    missing = " " * (place.width - cell_len(text))
    if place.column.is_number:
        text, missing = missing + text, ""
    return text if is_last else text + missing + " " * _GAP


def _below(row: Cells, columns: Sequence[Column], free: int | None, width: int) -> list[Text]:
    if free is None or not row[free]:
        return []
    style = _style_of_text(row, columns[free])
    return [_fitted(Text(f"  {line}", style=style), width) for line in wrapped(row[free], width - _GAP)]


def wrapped(text: str, width: int) -> list[str]:
    """The beginning of a text in lines of ``width`` columns, broken at spaces if possible. The last may be wider."""
    lines: list[str] = []
    most = min(_MAX_LINES, -(-_MAX_TEXT // max(1, width)))
    while len(lines) < most - 1 and cell_len(text) > width:
        end = _fitting(text, width)
        space = text.rfind(" ", end // 3, end + 1)
        end = end if space < 0 else space
        lines.append(text[:end].rstrip())
        text = text[end:].lstrip()
    return [*lines, text]


def _fitting(text: str, width: int) -> int:
    """How many characters of ``text`` fit, at least one."""
    for number, character in enumerate(text):
        width -= get_character_cell_size(character)
        if width < 0:
            return max(1, number)
    return len(text)


def _block(
    places: Sequence[_Shown], row: Cells, columns: Sequence[Column], free: int | None, width: int
) -> Iterator[Text]:
    """A row as a block. The first cell is not truncated, because it is the id that commands need."""
    yield Text(row[places[0].number], style="bold")
    line = Text("  ")
    for place in places[1:]:
        cell = row[place.number]
        if not cell or (place.column.is_number and cell == "0"):
            continue
        text = f"{cell} {place.column.name.lower()}" if place.column.is_number else cell
        if line.cell_len > _GAP and line.cell_len + cell_len(text) > width:
            yield _fitted(line, width)
            line = Text("  ")
        line.append(text, style=STATUS_STYLES.get(cell, place.column.style)).append("  ")
    if line.plain.strip():
        yield _fitted(line, width)
    yield from _below(row, columns, free, width)


def _style_of_text(row: Cells, column: Column) -> str:
    return "red" if not _FAILURES.isdisjoint(row) else column.style


def _fitted(line: Text, width: int) -> Text:
    line.rstrip()
    line.truncate(width, overflow="ellipsis")
    return line
