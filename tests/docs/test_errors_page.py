"""docs/reference/errors.md and the tree at the top of jobify.exceptions say what the module has."""

from __future__ import annotations

import asyncio
import builtins
import re

import pytest
from documents import ROOT, prose

import jobify.exceptions as module
from jobify.exceptions import BaseJobifyError

pytestmark = pytest.mark.promise("f40")

PAGE = prose(ROOT / "docs" / "reference" / "errors.md")
ROW = re.compile(r"^\| `(\w+)` \|([^|]*)\| (.+) \|$", re.MULTILINE)
BRANCH = re.compile(r"^(?P<indent>[ │├└─]*)(?P<name>\w+)(?:\((?P<others>[\w, ]+)\))?(?:  +\S.*)?$")

ERRORS = {
    name: kind
    for name in module.__all__
    if isinstance(kind := getattr(module, name), type) and issubclass(kind, Exception)
}


def others(kind: type) -> set[str]:
    """The exceptions of the interpreter that catch ``kind``, without those above them."""
    known = {
        base for base in kind.__mro__ if base.__module__ == "builtins" and base is getattr(builtins, base.__name__)
    }
    known -= {Exception, BaseException, object}
    return {base.__name__ for base in known if not any(base in other.__mro__[1:] for other in known)}


def test_there_is_one_tree() -> None:
    assert all(issubclass(kind, BaseJobifyError) for kind in ERRORS.values())


def test_every_error_has_one_row_with_its_other_bases() -> None:
    rows = ROW.findall(PAGE.partition("## Before anything is stored")[2])
    names = [name for name, _, _ in rows]
    assert len(names) == len(set(names))
    assert {*names} == {*ERRORS} - {"BaseJobifyError"}
    assert {name: set(re.findall(r"`(\w+)`", bases)) for name, bases, _ in rows} == {
        name: others(ERRORS[name]) for name in names
    }


def test_the_page_names_no_other_errors() -> None:
    named = set(re.findall(r"\b[A-Z]\w+Error\b", PAGE))
    assert {name for name in named if not (hasattr(builtins, name) or hasattr(asyncio, name))} <= {*ERRORS}


def test_names_that_look_alike_are_told_apart() -> None:
    alike = PAGE.partition("## Names that look alike")[2].partition("\n## ")[0]
    assert {name for name, _, _ in ROW.findall(alike)} == {
        name for name in ERRORS if re.fullmatch(r"(Job|Task|Wait)(Timeout|TimedOut|Failed|Cancelled)Error", name)
    }


def test_the_tree_at_the_top_is_that_of_the_module() -> None:
    drawn: dict[str, tuple[str, set[str]]] = {}
    path: list[tuple[int, str]] = []
    text = module.__doc__ or ""
    for line in text.partition("::\n")[2].partition("\nData is")[0].splitlines():
        found = BRANCH.match(line)
        if not found:
            continue
        depth, name = len(found["indent"]), found["name"]
        path = [(above, each) for above, each in path if above < depth]
        drawn[name] = (path[-1][1] if path else "", set(re.findall(r"\w+", found["others"] or "")))
        path.append((depth, name))
    assert {*drawn} == {*ERRORS, "Exception"}
    for name, (parent, more) in drawn.items():
        if name == "Exception":
            continue
        bases = [base.__name__ for base in ERRORS[name].__bases__ if not base.__name__.startswith("_")]
        bases += [
            base.__name__
            for hidden in ERRORS[name].__bases__
            if hidden.__name__.startswith("_")
            for base in hidden.__bases__
        ]
        known = {base.__name__ for base in ERRORS[name].__mro__}
        assert parent in known, name
        assert more <= known, name
        assert {*bases} <= {parent, *more} | {base.__name__ for base in ERRORS.get(parent, Exception).__mro__}, name


def test_old_clauses_go_on_working() -> None:
    assert issubclass(module.DuplicateJobError, RuntimeError)
    assert issubclass(module.WaitTimeoutError, TimeoutError)
    assert issubclass(module.TaskNotAttachedError, RuntimeError)
    assert issubclass(module.RouterError, RuntimeError)
