"""Values of options: what is plainly right is converted without typer's converter, all else by it."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
import typer
from typer.main import get_command

from jobify.cli.options import PlainCommand, PlainGroup, converting, new_group


class Typers:
    """Stands for a parameter of typer, with the converter that must be asked only where it is needed."""

    def __init__(self, annotation: Any, *, multiple: bool = False, **limits: float) -> None:
        self.asked: list[Any] = []
        self.type_descriptor = self
        self.annotation = annotation
        self.multiple, self.nargs = multiple, 1
        vars(self).update(limits)

    def get_runtime_param(self) -> Typers:
        return self

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        self.asked.append(value)
        return "converted by typer"


def converted(parameter: Typers, value: Any) -> Any:
    """The value as a command gets it."""
    (found,) = converting(converting([parameter]))  # a command is asked for its parameters more than once
    return found.get_runtime_param().coerce(value, param=parameter, ctx=None)


@pytest.mark.parametrize(
    ("annotation", "limits", "value", "expected"),
    [
        (str, {}, "text", "text"),
        (str, {}, None, None),
        (bool, {}, None, None),
        (int, {}, "12", 12),
        (int, {"min": 1, "max": 12}, "12", 12),
        (int, {"min": 1}, 50, 50),
        (float, {"min": 0}, "0.25", 0.25),
        (float, {"min": 0}, "3", 3.0),
        (float, {}, 10.0, 10.0),
        (list[str], {"multiple": True}, ("a", "b"), ["a", "b"]),
        (list[str], {"multiple": True}, None, ()),
    ],
)
def test_what_is_plainly_right_is_converted_here(
    annotation: Any, limits: dict[str, Any], value: Any, expected: Any
) -> None:
    parameter = Typers(annotation, **limits)
    found = converted(parameter, value)
    assert (found, type(found), parameter.asked) == (expected, type(expected), [])


@pytest.mark.parametrize(
    ("annotation", "limits", "value"),
    [
        (int, {"min": 1}, "0"),
        (int, {"max": 9}, "10"),
        (int, {}, "1_000"),
        (int, {}, "-1"),
        (int, {}, "\u0663"),
        (int, {}, "9" * 16),
        (int, {}, 1.5),
        (float, {}, "1e3"),
        (float, {}, "nan"),
        (str, {}, b"bytes"),
        (bool, {}, "yes"),
        (list[int], {"multiple": True}, ("1",)),
        (list[str], {"multiple": True}, "text"),
    ],
)
def test_typer_converts_all_else_and_words_the_error(annotation: Any, limits: dict[str, Any], value: Any) -> None:
    parameter = Typers(annotation, **limits)
    assert converted(parameter, value) == "converted by typer"
    assert parameter.asked == [value]


def test_a_typer_without_such_a_converter_is_left_alone() -> None:
    class Older:
        """A parameter of the releases that convert with click."""

    parameter = Older()
    assert converting([parameter]) == [parameter]
    assert vars(parameter) == {}


def test_commands_and_groups_get_the_values_of_their_types() -> None:
    group, got = new_group("A group."), []

    @group.command("take")
    def take(
        names: Annotated[list[str] | None, typer.Argument()] = None,
        number: Annotated[int, typer.Option(min=1)] = 5,
        share: Annotated[float | None, typer.Option()] = None,
        is_on: Annotated[bool, typer.Option("--on")] = False,
    ) -> None:
        got.append((names, number, share, is_on))

    @group.command("other")
    def other() -> None: ...

    command: Any = get_command(group)
    assert isinstance(command, PlainGroup)
    assert isinstance(command.commands["take"], PlainCommand)
    command(["take"], standalone_mode=False)
    command(["take", "a", "b", "--number", "7", "--share", "0.5", "--on"], standalone_mode=False)
    assert got == [(None, 5, None, False), (["a", "b"], 7, 0.5, True)]
