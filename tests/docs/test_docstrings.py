"""Every public name says what it is, and in which unit it takes a duration."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import jobify
from jobify.middleware import JobifyQueue
from jobify.model.clock import Clock
from jobify.runtime.fork import Forkable
from jobify.serializers import Serializer
from jobify.storage import Storage
from jobify.storage.ownership import OwnerPort
from jobify.typeadapter import Dumper, Loader

ADDRESSES = (
    "jobify",
    "jobify.serializers",
    "jobify.typeadapter",
    "jobify.router",
    "jobify.middleware",
    "jobify.exceptions",
    "jobify.storage",
    "jobify.crontab",
    "jobify.model.clock",
    "jobify.testing.clock",
)
PORTS = (Forkable, OwnerPort, Storage, Dumper, Loader, Serializer, Clock, JobifyQueue)
"""What a port's page says of a method holds for whoever implements it."""

DURATIONS = {"timeout", "seconds", "initial_delay", "max_delay", "grace", "result_ttl", "delay"}


def exported() -> Iterator[tuple[str, str, Any]]:
    for address in ADDRESSES:
        module = importlib.import_module(address)
        for name in module.__all__:
            yield address, name, getattr(module, name)


def functions(owner: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties that a class itself defines."""
    for name, member in vars(owner).items():
        if isinstance(member, property | cached_property):
            function: Any = member.fget if isinstance(member, property) else member.func
        else:
            function = getattr(member, "__func__", member)
        if not name.startswith("_") and inspect.isfunction(function):
            yield name, function


CLASSES = {value: name for _, name, value in exported() if inspect.isclass(value) and value.__module__[:6] == "jobify"}
FUNCTIONS = {value: name for _, name, value in exported() if inspect.isfunction(value)}
METHODS = [(f"{CLASSES[owner]}.{name}", owner, function) for owner in CLASSES for name, function in functions(owner)]


def text_of(owner: type, function: Any) -> str:
    """What is said of a method: where it is defined, in a class above, or in the port that it implements."""
    name = function.__name__
    places = [*owner.__mro__, *(port for port in PORTS if hasattr(owner, name) and issubclass_of(owner, port))]
    texts = (getattr(vars(place).get(name), "__doc__", None) for place in places)
    return next((text for text in texts if text), "")


def issubclass_of(owner: type, port: type) -> bool:
    return all(hasattr(owner, name) for name, _ in functions(port))


def test_the_walk_finds_what_there_is() -> None:
    names = {name for name, *_ in METHODS}
    assert {"Jobify", "SmartRetry", "SQLiteStorage", "JobFailedError", "PydanticConverter"} <= set(CLASSES.values())
    assert {"ScheduleBuilder.delay", "Job.exec_at", "Jobify.shutdown", "Storage.claim"} <= names


@pytest.mark.parametrize("kind", CLASSES, ids=CLASSES.get)
def test_a_class_says_what_it_is(kind: type) -> None:
    text = vars(kind).get("__doc__") or ""
    assert text, "no docstring of its own"
    assert not text.startswith(f"{kind.__name__}("), "made by a decorator from the fields"


@pytest.mark.parametrize("function", FUNCTIONS, ids=FUNCTIONS.get)
def test_a_function_says_what_it_does(function: Any) -> None:
    assert function.__doc__


@pytest.mark.parametrize(("name", "owner", "function"), METHODS, ids=[name for name, *_ in METHODS])
def test_a_method_says_what_it_does(name: str, owner: type, function: Any) -> None:
    assert text_of(owner, function)


def durations(function: Any) -> set[str]:
    try:
        return DURATIONS & set(inspect.signature(function).parameters)
    except ValueError:
        return set()


WITH_UNITS = {
    **{CLASSES[kind]: inspect.getsource(kind) for kind in CLASSES if durations(kind)},
    **{name: text_of(owner, function) for name, owner, function in METHODS if durations(function)},
}
"""What is said of those that take a duration; the options of a class may be described one by one."""


@pytest.mark.parametrize("name", WITH_UNITS)
def test_a_duration_has_a_unit(name: str) -> None:
    assert "second" in WITH_UNITS[name].lower()


def test_units_are_asked_of_what_has_them() -> None:
    asked = {"SmartRetry", "Jobify", "SQLiteStorage", "Jobify.shutdown", "Jobify.wait_all", "ScheduleBuilder.delay"}
    assert asked <= set(WITH_UNITS)


def test_a_class_of_several_options_has_more_than_a_line() -> None:
    short = [
        name
        for kind, name in CLASSES.items()
        if durations(kind) and not issubclass(kind, Exception) and len((inspect.getdoc(kind) or "").splitlines()) < 2
    ]
    assert short == []


def _described(path: Path) -> set[str]:
    """The assigned names of a module that have a text below them, or a comment's worth of one in the same place."""
    body = ast.parse(path.read_text()).body
    found = set()
    for statement, following in pairwise(body):
        is_text = isinstance(following, ast.Expr) and isinstance(getattr(following.value, "value", None), str)
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        found |= {target.id for target in targets if isinstance(target, ast.Name) and is_text}
    return found


def test_an_alias_says_what_it_stands_for() -> None:
    root = Path(jobify.__file__).parent
    described = {name for path in root.rglob("*.py") for name in _described(path)}
    aliases = {
        name
        for _, name, value in exported()
        if not (inspect.isclass(value) or inspect.isfunction(value) or name.startswith("__"))
    }
    assert sorted(aliases - described) == []
