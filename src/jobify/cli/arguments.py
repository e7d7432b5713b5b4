"""From JSON on the command line to the arguments that a task expects."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from inspect import Parameter
from typing import TYPE_CHECKING, Any

from jobify.cli.errors import CommandError
from jobify.worker.exit_codes import ExitCode

if TYPE_CHECKING:
    from jobify.config import JobifyConfiguration
    from jobify.model.signature import FuncSpec
    from jobify.typeadapter import Loader

__all__ = ("convert_arguments",)

_MANY = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
_PLAIN = (str, int, float, bool, list, dict, type(None))


def convert_arguments(
    config: JobifyConfiguration, spec: FuncSpec[Any], call: tuple[Sequence[Any], Mapping[str, Any]]
) -> tuple[list[Any], dict[str, Any]]:
    """``call`` with each value made into what the annotation of its parameter says: a model, a date, an enum.

    JSON has no words for those, and the task would get a dict or a text in their place. CommandError (usage) for a
    value that does not fit. What is not annotated, or with a type that no converter knows, stays as it is.
    """
    loaders = list(_loaders(config))
    by_place = [one for one in spec.signature.parameters.values() if one.kind not in _MANY]
    by_name = {one.name: one for one in by_place}

    def read(parameter: Parameter | None, value: Any) -> Any:
        annotation = None if parameter is None else spec.type_params.get(parameter.name)
        if parameter is None or annotation is None or annotation in _PLAIN:
            return value
        return _read(parameter.name, annotation, value, loaders)

    args, kwargs = call
    places = [*by_place, *[None] * len(args)]
    return (
        [read(parameter, value) for parameter, value in zip(places, args, strict=False)],
        {name: read(by_name.get(name), value) for name, value in kwargs.items()},
    )


def _loaders(config: JobifyConfiguration) -> Iterator[Loader]:
    """The app's own, or those for what its serializer restores by itself."""
    from jobify.typeadapter import NativeConverter, PassThrough, PydanticConverter

    if not isinstance(config.loader, PassThrough):
        yield config.loader
        return
    yield NativeConverter()
    if "pydantic" in sys.modules:  # else no annotation is a model
        yield PydanticConverter()


def _read(name: str, annotation: Any, value: Any, loaders: Sequence[Loader]) -> Any:
    problem: Exception | None = None
    for loader in loaders:
        try:
            found = loader.load(value, annotation)
        except Exception as error:  # of the user's model, or of a loader that does not know the type
            problem = error
        else:
            if found is not value:
                return found
    if problem is None or not isinstance(annotation, type) or isinstance(value, annotation):
        return value
    text = " ".join(str(problem).split())
    raise CommandError(
        f"The argument {name!r} cannot be made into the {annotation.__name__} that the task expects: {text}",
        ExitCode.USAGE,
    )
