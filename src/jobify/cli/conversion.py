"""Values of options and arguments, without the converter of typer where a value is plainly right.

Newer releases of typer convert every value with pydantic, whose import alone takes longer than most commands. A value
that is not plainly right goes to typer, which converts it or words the error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any, Final, get_args, get_origin

from typer.core import TyperCommand, TyperGroup

__all__ = ("PlainCommand", "PlainGroup", "converting")

_INTEGER: Final = re.compile(r"[0-9]{1,15}", re.ASCII)
_FLOAT: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)


class PlainCommand(TyperCommand):
    """A command whose parameters convert what is plainly right."""

    def get_params(self, ctx: Any) -> list[Any]:
        return converting(super().get_params(ctx))


class PlainGroup(TyperGroup):
    """The same for a group of commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        return converting(super().get_params(ctx))


def converting(parameters: list[Any]) -> list[Any]:
    """The same parameters; from now on they convert what is plainly right."""
    for each in parameters:
        has_converter = hasattr(each, "get_runtime_param") and hasattr(each, "type_descriptor")
        if has_converter and "get_runtime_param" not in vars(each):
            each.get_runtime_param = partial(_PlainConverter, each, each.get_runtime_param)
    return parameters


class _PlainConverter:
    """Converts for one parameter, in the place of typer's own converter."""

    def __init__(self, parameter: Any, typers_own: Callable[[], Any]) -> None:
        self._typers_own = typers_own
        self._kind = parameter.type_descriptor.annotation
        self._is_list = parameter.multiple or parameter.nargs == -1
        least, most = getattr(parameter, "min", None), getattr(parameter, "max", None)
        self._least = -math.inf if least is None else least
        self._most = math.inf if most is None else most

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value as its type."""
        if value is None:
            return () if self._is_list else None
        if self._kind is str and isinstance(value, str):
            return value
        if self._kind is int and (number := self._number(value, int, _INTEGER)) is not None:
            return number
        if self._kind is float and (number := self._number(value, float, _FLOAT)) is not None:
            return number
        if self._is_texts(value):
            return list(value)
        return self._typers_own().coerce(value, param=param, ctx=ctx)

    def _number(self, value: Any, kind: type[float], shape: re.Pattern[str]) -> float | None:
        """The number, if it is one of this kind that the option allows."""
        number: Any = kind(value) if isinstance(value, str) and shape.fullmatch(value) else value
        return number if type(number) is kind and self._least <= number <= self._most else None

    def _is_texts(self, value: Any) -> bool:
        is_list = self._is_list and isinstance(value, list | tuple)
        return is_list and get_origin(self._kind) is list and get_args(self._kind) == (str,)
