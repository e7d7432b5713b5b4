"""The list of what Jobify owes its users is complete: each line of it is a test, named by its number.

- ``item_NNN``: the published interface, 118 lines.
- ``rule_NN``: documented behaviour, 23 lines.
- ``xN``: what was decided where the sources disagree, 20 lines.
- ``bN``: stories that went wrong in a released scheduler, 49 lines.
- ``jN``: what is said of the handle of a job, 24 lines.
- ``tN``: stories that went wrong in a released queue, 15 lines.
- ``fN``: stories of users and of attackers in the field; those in ``FIELD``.

A test may stand for several lines (``test_b5_b6_...``, ``test_item_056_to_061_...``, ``test_j18_to_j20_...``), and a
line for several tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
DEFINITION = re.compile(r"^\s*(?:async )?def test_(\w+)\(", re.MULTILINE)
LEADING = re.compile(r"(?:(item|rule)_(\d+)((?:_to)?_\d+)*|([bfjtx])(\d+)(?:_to_\4(\d+))?)_")
FIELD = set(range(1, 59))
LINES = {
    "item": set(range(1, 119)),
    "rule": set(range(1, 24)),
    "x": set(range(1, 21)),
    "b": set(range(1, 50)),
    "j": set(range(1, 25)),
    "t": set(range(1, 16)),
    "f": FIELD,
}


def numbers(name: str) -> Iterator[tuple[str, int]]:
    """The lines that a test stands for: what its name begins with."""
    while match := LEADING.match(name):
        kind = match[1] or match[4]
        found = [int(number) for number in re.findall(r"\d+", match[0])]
        if "_to_" in match[0]:
            found = list(range(found[0], found[-1] + 1))
        for number in found:
            yield kind, number
        name = name[match.end() :]


NAMED = {
    line for path in TESTS.rglob("test_*.py") for name in DEFINITION.findall(path.read_text()) for line in numbers(name)
}


def test_names_are_read_as_they_are_meant() -> None:
    assert list(numbers("item_047_048_args")) == [("item", 47), ("item", 48)]
    assert list(numbers("item_056_to_058_fields")) == [("item", 56), ("item", 57), ("item", 58)]
    assert list(numbers("b5_b6_arguments")) == [("b", 5), ("b", 6)]
    assert list(numbers("item_036_x6_rule_09_a_number")) == [("item", 36), ("x", 6), ("rule", 9)]
    assert list(numbers("j18_to_j20_t3_it_waits")) == [("j", 18), ("j", 19), ("j", 20), ("t", 3)]
    assert list(numbers("t2_to_j4_")) == [("t", 2)]
    assert list(numbers("f42_f43_the_file_is_gone")) == [("f", 42), ("f", 43)]
    assert list(numbers("bad_arguments_x2_")) == []


@pytest.mark.parametrize("kind", LINES)
def test_every_line_has_a_test_that_is_named_by_it(kind: str) -> None:
    wanted = LINES[kind]
    found = {number for named, number in NAMED if named == kind}
    assert found == wanted, f"without a test: {sorted(wanted - found)}; unknown: {sorted(found - wanted)}"
