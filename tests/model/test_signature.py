"""What is known of a task's function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from jobify import INJECT, JobContext, Jobify, RequestState
from jobify.exceptions import ConfigurationError
from jobify.model.signature import FuncSpec, inspect_function, is_async_callable

if TYPE_CHECKING:
    from nowhere import Missing  # type: ignore[import-not-found]


def spec_of(func: Callable[..., Any]) -> FuncSpec[Any]:
    return inspect_function(func, name="task")


class Service:
    async def method(self, x: int) -> str:
        return ""

    def plain(self, x: int) -> str:
        return ""

    @staticmethod
    def static(x: int) -> str:
        return ""

    @classmethod
    async def made(cls, x: int) -> str:
        return ""


class Called:
    async def __call__(self, x: int) -> str:
        return ""


class Wrapper:
    """A decorator that is an object."""

    def __init__(self, func: Callable[..., Any]) -> None:
        functools.update_wrapper(self, func)
        self.func = func

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return await self.func(*args, **kwargs)


async def first(a: int, x: int) -> str:
    return ""


async def second(x: int) -> str:
    return ""


@pytest.mark.parametrize(
    "func",
    [
        second,
        Service().method,
        Service().plain,
        Service.static,
        Service.made,
        Called(),
        Wrapper(second),
        functools.partial(first, 1),
        functools.partial(functools.partial(first), 1),
    ],
)
def test_every_kind_of_callable(func: Callable[..., Any]) -> None:
    spec = spec_of(func)
    assert spec.type_params["x"] is int
    assert spec.result_type is str
    assert list(spec.signature.parameters) == ["x"]
    spec.check(1)
    spec.check(x=1)
    with pytest.raises(TypeError, match="task"):
        spec.check()


@pytest.mark.parametrize(
    ("func", "is_async"),
    [
        (second, True),
        (Called(), True),
        (Wrapper(second), True),
        (Service().method, True),
        (Service.made, True),
        (functools.partial(first, 1), True),
        (Service().plain, False),
        (Service.static, False),
        (len, False),
        (Called, False),
        (functools.partial(len), False),
    ],
)
def test_is_async_callable(func: Callable[..., Any], is_async: bool) -> None:
    assert is_async_callable(func) is is_async


def test_what_exists_for_type_checkers_only_counts_as_untyped() -> None:
    def func(x: Missing, y: int, *z: Missing) -> Missing: ...

    spec = spec_of(func)
    assert spec.type_params == {"y": int}
    assert spec.result_type is Any


def test_annotations_that_only_the_signature_has() -> None:
    def func(*args: Any, **kwargs: Any) -> None: ...

    state = inspect.Parameter("state", inspect.Parameter.KEYWORD_ONLY, annotation=RequestState, default=INJECT)
    x = inspect.Parameter("x", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=int)
    func.__signature__ = inspect.Signature([x, state])  # type: ignore[attr-defined]
    func.__annotations__ = {}
    spec = spec_of(func)
    assert spec.type_params == {"x": int, "state": RequestState}
    assert spec.inject_params == {"state": RequestState}


def test_the_check_has_the_shape_of_the_function() -> None:
    def func(a: int, /, b: int, c: int = 1, *args: int, d: int, e: int = 2, **kwargs: int) -> None: ...

    check = spec_of(func).check
    check(1, 2, d=3)
    check(1, 2, 3, 4, 5, d=3, e=4, f=5)
    for args, kwargs in (((1,), {"d": 1}), ((1, 2), {}), ((), {"a": 1, "b": 2, "d": 3})):
        with pytest.raises(TypeError, match="task"):
            check(*args, **kwargs)


def test_keyword_only_parameters_and_positional_only_ones() -> None:
    def keywords(*, a: int, b: JobContext = INJECT) -> None: ...

    def positions(a: int, b: int, /) -> None: ...

    spec_of(keywords).check(a=1)
    spec_of(positions).check(1, 2)
    with pytest.raises(TypeError):
        spec_of(keywords).check(1)
    with pytest.raises(TypeError):
        spec_of(positions).check(1, b=2)


def test_a_function_that_does_not_tell_its_parameters() -> None:
    class Secret:
        __signature__ = "nonsense"

        def __call__(self) -> None: ...

    with pytest.raises(ConfigurationError, match="cannot be seen"):
        spec_of(Secret())
    with pytest.raises(ConfigurationError, match="cannot be seen"):
        Jobify(storage=False).task(Secret(), name="secret")
