"""No text from outside forges a line of log, in any handler, whichever record of the library it is in (story F48)."""

from __future__ import annotations

import ast
import io
import logging
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import jobify
from jobify.runtime.failure_log import FailureLog
from jobify.runtime.logs import Lines, get_logger

pytestmark = pytest.mark.promise("f48")

SOURCE = Path(jobify.__file__).parent
METHODS = frozenset({"debug", "info", "warning", "error", "exception", "critical", "log", "failed"})
UNSAFE = [*map(chr, (*range(1, 32), *range(127, 160))), *"\u200e\u200f\u2028\u2029\u202a\u202e\u2066\u2069\ufeff"]
HOSTILE = "a" + "".join(UNSAFE) + "\x1b]0;title\x07\x1b[2J\r\nFORGED\tz"
SPECIFIER = re.compile(r"%[-+0-9.,]*([srdgf%])")
PASSED_ON = {("runtime.failure_log", "message"), ("storage.sqlite.owners", "text"), ("engine.service", "message")}
"""Templates that are variables: each gets constants only."""


class Custom:
    """An object with code of its own."""

    def __str__(self) -> str:
        return HOSTILE

    def __repr__(self) -> str:
        return HOSTILE


class LogCall(NamedTuple):
    module: str
    logger: str
    line: int
    template: str


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


def log_calls() -> Iterator[LogCall]:
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        loggers = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign) and "get_logger" in ast.unparse(node.value)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner = node.func.value
            if node.func.attr not in METHODS or not isinstance(owner, ast.Name) or owner.id not in loggers:
                continue
            template = node.args[node.func.attr == "log"]
            if isinstance(template, ast.Name):
                template = written_before(tree, template) or template
            if isinstance(template, ast.Constant):
                yield LogCall(module_of(path), owner.id, node.lineno, template.value)
            else:
                assert isinstance(template, ast.Name), f"{path}:{node.lineno}: the template is no constant"
                assert (module_of(path), template.id) in PASSED_ON, f"{path}:{node.lineno}"


def written_before(tree: ast.Module, use: ast.Name) -> ast.Constant | None:
    """The constant that a variable holds which was written in the statement before."""
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=use.id)], value=ast.Constant() as value):
                if node.end_lineno == use.lineno - 1:
                    return value
    return None


@cache
def calls() -> tuple[LogCall, ...]:
    return tuple(log_calls())


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What a handler of the user's own writes, with the formatter of the standard library."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    root, library = logging.getLogger(), logging.getLogger("jobify")
    level = library.level
    root.addHandler(handler)
    library.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    library.setLevel(level)


def lines_of(written: io.StringIO) -> list[str]:
    text = written.getvalue()
    assert not [char for char in text if char not in "\n\t" and not char.isprintable()]
    return text.removesuffix("\n").split("\n")


@pytest.mark.slow
def test_every_logger_of_the_library_escapes() -> None:
    assert len(calls()) > 40
    for path in SOURCE.rglob("*.py"):
        if module_of(path) != "logs":
            assert 'getLogger("jobify' not in path.read_text(encoding="utf-8"), path
            assert "getLogger(__name__" not in path.read_text(encoding="utf-8"), path


@pytest.mark.slow
@pytest.mark.parametrize("value", [HOSTILE, ValueError(HOSTILE), Custom()], ids=["text", "error", "object"])
def test_no_argument_of_any_record_forges_a_line(value: object, written: io.StringIO) -> None:
    for call in calls():
        written.truncate(written.seek(0))
        logger: logging.Logger = getattr(import_module(f"jobify.{call.module}"), call.logger)
        kinds = [kind for kind in SPECIFIER.findall(call.template) if kind != "%"]
        logger.error(call.template, *(value if kind in "sr" else 1 for kind in kinds))
        assert len(lines_of(written)) == 1 + call.template.count("\n"), call


def test_a_record_keeps_what_is_printable(written: io.StringIO, caplog: pytest.LogCaptureFixture) -> None:
    get_logger("jobify.test").warning("Job %s (%r) %d", "a é", "b", 3)
    assert lines_of(written) == ["WARNING jobify.test Job a é ('b') 3"]
    (record,) = caplog.records
    assert (record.msg, record.args) == ("Job %s (%r) %d", ("a é", "b", 3))


def test_the_lines_of_a_traceback_are_indented(written: io.StringIO) -> None:
    log = get_logger("jobify.test")
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        log.exception("It failed: %s", HOSTILE)
    log.error("And:\n%s", Lines("one\nFORGED\x1b[2J"))
    first, trace, *rest = lines_of(written)
    assert first.startswith("ERROR jobify.test It failed: a\\x01")
    assert trace == "Traceback (most recent call last):"
    assert [line for line in rest if not line.startswith("    ")] == ["ERROR jobify.test And:", "one"]


def test_extra_attributes_and_named_arguments_are_escaped(
    written: io.StringIO, caplog: pytest.LogCaptureFixture
) -> None:
    get_logger("jobify.test").error("%(id)s", {"id": HOSTILE}, extra={"job_id": HOSTILE, "attempt": 3})
    assert len(lines_of(written)) == 1
    (record,) = caplog.records
    attributes: dict[str, Any] = vars(record)
    assert attributes["job_id"].isprintable()
    assert attributes["attempt"] == 3


def test_failures_that_repeat_are_escaped(written: io.StringIO) -> None:
    failures = FailureLog(get_logger("jobify.test"), "Over", interval=0)
    for _ in range(2):
        failures.failed("a", "The queue %s fails: %r", HOSTILE, Custom(), error=None)
    failures.succeeded("a")
    assert len(lines_of(written)) == 3


def test_a_filter_is_added_once() -> None:
    log = get_logger("jobify.test")
    assert get_logger("jobify.test") is log
    assert len(log.filters) == 1
