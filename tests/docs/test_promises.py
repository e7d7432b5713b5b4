"""The list of what Jobify owes its users is complete: each line of it has tests, marked with its number.

- ``item-N``: the published interface, 118 lines.
- ``rule-N``: documented behaviour, 23 lines.
- ``xN``: what was decided where the sources disagree, 20 lines.
- ``bN``: stories that went wrong in a released scheduler, 49 lines.
- ``jN``: what is said of the handle of a job, 24 lines.
- ``tN``: stories that went wrong in a released queue, 15 lines.
- ``fN``: stories of users and of attackers in the field, 58 lines.

A test may stand for several lines, ``@pytest.mark.promise("b5", "x2")``, and a line for several tests. What a module
holds as a whole is marked once: ``pytestmark = pytest.mark.promise("f48")``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
LINES = {"item-": 118, "rule-": 23, "x": 20, "b": 49, "j": 24, "t": 15, "f": 58}
PROMISES = {kind: {f"{kind}{number}" for number in range(1, count + 1)} for kind, count in LINES.items()}
NUMBERED = re.compile(r"test_(?:(?:item|rule)_|[bfjtx])\d+_")


@cache
def modules() -> list[ast.Module]:
    """The modules with tests."""
    return [ast.parse(path.read_text()) for path in sorted(TESTS.rglob("test_*.py"))]


def marks(module: ast.Module) -> Iterator[str]:
    """The promises that the tests of a module are marked with."""
    for node in ast.walk(module):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Attribute(attr="mark"), attr="promise"), args=arguments):
                yield from (ast.literal_eval(argument) for argument in arguments)


@cache
def marked() -> set[str]:
    """The promises that any test is marked with."""
    return {mark for module in modules() for mark in marks(module)}


def test_marks_are_read_of_tests_and_modules() -> None:
    module = ast.parse('pytestmark = pytest.mark.promise("f1")\n@pytest.mark.promise("b2", "x3")\ndef test_it(): ...')
    assert sorted(marks(module)) == ["b2", "f1", "x3"]


@pytest.mark.parametrize("kind", PROMISES)
def test_every_line_has_a_test_that_is_marked_with_it(kind: str) -> None:
    assert PROMISES[kind] - marked() == set()


def test_no_mark_is_of_an_unknown_line() -> None:
    assert marked() - set().union(*PROMISES.values()) == set()


def test_names_say_the_story_and_not_its_number() -> None:
    names = [node.name for module in modules() for node in ast.walk(module) if hasattr(node, "name")]
    assert [name for name in names if name and NUMBERED.match(name)] == []
