"""How a function is named for another process, and found there."""

from __future__ import annotations

import functools
import math
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest
import runner_tasks

from jobify.exceptions import ConfigurationError
from jobify.runners.function_address import Address, find, process_address


def decorated() -> Any:
    def inner() -> None: ...

    return inner


@pytest.mark.parametrize("func", [runner_tasks.add, runner_tasks.Tools.double, math.sqrt, len])
def test_a_function_with_a_name_is_found_by_it(func: Any) -> None:
    assert find(process_address(func)) is func


@pytest.mark.parametrize("name", ["wrapped", "rewrapped"])
def test_under_a_registered_name_the_original_is_found(name: str) -> None:
    found = find(Address("runner_tasks", name))
    assert found(2) == 3
    assert found is runner_tasks.wrapped.func


@pytest.mark.parametrize(
    ("func", "reason"),
    [
        (lambda: None, "lambda"),
        (decorated(), "inside another function"),
        (runner_tasks.Tools().method, "bound"),
        (functools.partial(runner_tasks.add, 1), "no function"),
        (runner_tasks.wrapped, "no function"),
        (runner_tasks.Tools, "no function"),
        (str.upper, "no function"),
    ],
)
def test_what_no_process_could_find_is_refused(func: Any, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as caught:
        process_address(func)
    assert str(caught.value).endswith("or choose run_mode='thread'.")


def main_module(*, file: str | None, spec: str | None) -> ModuleType:
    module = ModuleType("__main__")
    module.__spec__ = ModuleSpec(spec, None) if spec else None
    if file:
        module.__file__ = file
    return module


@pytest.mark.parametrize(
    ("module", "is_importable"),
    [
        (main_module(file=__file__, spec=None), True),
        (main_module(file="<stdin>", spec=None), False),
        (main_module(file="/app/pkg/app.py", spec="pkg.app"), True),
        (main_module(file=None, spec=None), False),
        (main_module(file="/app/pkg/__main__.py", spec="pkg.__main__"), False),
        (main_module(file="/app/__main__.py", spec="__main__"), False),
    ],
)
def test_the_main_module_must_be_one_that_a_child_can_import(
    module: ModuleType, is_importable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def task() -> None: ...

    task.__module__, task.__qualname__ = "__main__", "task"
    monkeypatch.setitem(sys.modules, "__main__", module)
    if is_importable:
        assert process_address(task) == ("__main__", "task")
    else:
        with pytest.raises(ConfigurationError, match="interactive session"):
            process_address(task)


def test_a_name_that_is_not_there_or_not_a_function_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"no 'gone' in the module 'runner_tasks'"):
        find(Address("runner_tasks", "gone"))
    with pytest.raises(ConfigurationError, match=r"no 'Tools\.gone'"):
        find(Address("runner_tasks", "Tools.gone"))
    with pytest.raises(ConfigurationError, match="runner_tasks:number is 7"):
        find(Address("runner_tasks", "number"))
    with pytest.raises(ModuleNotFoundError):
        find(Address("no_such_module", "task"))
