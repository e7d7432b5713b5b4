"""The library is built of small pieces, as CONTRIBUTING.md says; what is larger is named here, with the reason."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from documents import ROOT

PACKAGE = ROOT / "src" / "jobify"
FILE, CLASS, FUNCTION, PARAMETERS = 390, 280, 60, 7
NORM = 8
"""Lines of a function, at the median."""

TOLD_MORE = {
    "app/application.py:Jobify.__init__": "the published constructor",
    "serializers/binary.py:CBORSerializer.__init__": "the published constructor: the options of cbor2",
    "serializers/binary.py:MsgpackSerializer.__init__": "the published constructor: the options of msgpack",
    "cli/commands/jobs.py:list_jobs": "a command: its parameters are its options",
    "cli/commands/jobs.py:purge_jobs": "a command: its parameters are its options",
    "cli/commands/enqueue.py:enqueue": "a command: its parameters are its options",
    "cli/commands/health.py:health": "a command: its parameters are its options",
    "cli/commands/worker.py:worker": "a command: its parameters are its options",
}
"""Who takes more than seven parameters."""

LONG_FILES = {
    "exceptions.py": "the tree of errors: drawn at the top, and defined below in that order",
    "engine/execution/completer.py": "an outcome, from the end of its attempt to its handle, is read in one go",
}

LONG_CLASSES = {
    "jobs/job.py:Job": "a published handle: each member has its text",
    "jobs/job_result.py:JobResult": "a published handle: each member has its text",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def modules() -> dict[str, Path]:
    """The modules of the library, by their path inside it."""
    return {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}


def _named(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function | ast.ClassDef]]:
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, Function | ast.ClassDef):
            yield prefix + inner.name, inner
            yield from _named(inner, f"{prefix}{inner.name}.")
        else:
            yield from _named(inner, prefix)


@cache
def definitions() -> dict[str, Function | ast.ClassDef]:
    """Every class and function, by where it is: ``app.py:Jobify.startup``."""
    return {
        name: node
        for module, path in modules().items()
        for name, node in _named(ast.parse(path.read_text(encoding="utf-8")), f"{module}:")
    }


def length(node: Function | ast.ClassDef) -> int:
    """Its lines, docstring and all."""
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def parameters(node: Function) -> int:
    """How much it is told, beyond ``self``."""
    names = [each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def test_a_file_has_an_end() -> None:
    lines = {name: path.read_text(encoding="utf-8").count("\n") for name, path in modules().items()}
    assert {name for name, count in lines.items() if count > FILE} == set(LONG_FILES)


def test_a_class_has_an_end() -> None:
    lines = {name: length(node) for name, node in definitions().items() if isinstance(node, ast.ClassDef)}
    assert {name for name, count in lines.items() if count > CLASS} == set(LONG_CLASSES)


def test_a_function_has_an_end() -> None:
    lines = {name: length(node) for name, node in definitions().items() if isinstance(node, Function)}
    assert {name: count for name, count in lines.items() if count > FUNCTION} == {}


def test_a_function_is_short_as_a_rule() -> None:
    assert statistics.median(length(node) for node in definitions().values() if isinstance(node, Function)) <= NORM


def test_more_than_seven_parameters_are_a_value() -> None:
    told = {name: parameters(node) for name, node in definitions().items() if isinstance(node, Function)}
    assert {name for name, count in told.items() if count > PARAMETERS} == set(TOLD_MORE)


@pytest.mark.parametrize("claim", [f"about {NORM} lines", f"{FUNCTION} the end", f"at {CLASS}", f"at {FILE} lines"])
def test_the_page_says_so(claim: str) -> None:
    assert claim in " ".join((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
