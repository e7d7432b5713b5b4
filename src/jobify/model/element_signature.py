"""One call of a task whose function takes a list: its parameters, and the element that the function gets for it.

The function of such a task takes one list, and a job is one element of it. So the calls of the task (``delay``,
``push``, ``schedule`` …) take what the element type takes::

    @dataclass
    class Row:
        table: str
        values: dict[str, Any] = field(default_factory=dict)

    @app.task(batch=Batch(500))
    def load(rows: list[Row]) -> list[int | Exception]: ...

    load.delay("users", values={"id": 7})

The element type is a dataclass, an attrs class, a msgspec Struct, a pydantic model, a NamedTuple or a TypedDict. For
anything else there is :class:`Call`. A job stores the arguments of its call, as one of any task does, each by the
annotation of its field. The element is made when the function is about to be called, so that its defaults are those of
that time, and what it refuses fails that job only.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import Parameter, Signature
from typing import (
    Annotated,
    Any,
    Final,
    ForwardRef,
    NotRequired,
    Required,
    get_args,
    get_origin,
    is_typeddict,
)

import msgspec

from jobify.exceptions import ConfigurationError
from jobify.model.signature import FuncSpec, inspect_function, resolve_hints, spec_of_signature
from jobify.types import INJECT

__all__ = ("Call", "Element", "element_of")

_LISTS: Final = (list, abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a task whose function takes ``list[Call]``: the arguments of one job.

    ::

        @app.task(batch=Batch(100, wait=1))
        def index(calls: list[Call]) -> list[int | Exception]:
            return store([call.args for call in calls])

        index.delay("any", arguments=1)
    """

    args: tuple[Any, ...] = ()
    """The positional arguments."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """The keyword arguments."""
    id: str
    """The id of the job."""
    attempt: int = 1
    """The number of the attempt, from 1."""


@dataclass(frozen=True, slots=True)
class Element:
    """What a task whose function takes a list is called with, once for each job."""

    type: Any
    """The element type."""
    parameter: str
    """The name of the function's parameter that is the list."""
    signature: Signature
    """The parameters of one call: the fields of the element type."""
    type_params: Mapping[str, Any]
    """Their annotations, resolved; without those that cannot be."""
    make: Callable[[tuple[Any, ...], Mapping[str, Any]], Any] = field(repr=False)

    def build(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, id: str, attempt: int = 1) -> Any:
        """The element for a call. Raises whatever its type raises for values that it refuses."""
        if self.type is Call:
            return Call(args=args, kwargs=dict(kwargs), id=id, attempt=attempt)
        return self.make(args, kwargs)

    def spec(self, name: str, result_type: Any = Any) -> FuncSpec[Any]:
        """The calls of the task ``name``, as if its function took them one by one."""
        return spec_of_signature(self.signature, self.type_params, name=name, result_type=result_type)


def element_of(func: Callable[..., Any], *, task: str, option: str = "batch") -> Element:
    """The element that ``func`` takes a list of.

    ConfigurationError if it takes none: ``option``, which ``task`` was given, needs a function whose only required
    parameter is a list of a type with fields, or of :class:`Call`.
    """
    spec = inspect_function(func, name=task)
    parameter = _list_parameter(spec, option)
    hint = spec.type_params.get(parameter.name, Any)
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    element = get_args(hint)[0] if get_origin(hint) in _LISTS and len(get_args(hint)) == 1 else None
    if element is None:
        raise ConfigurationError(
            f"{option}= of task {task!r} needs a function that takes a list; its parameter {parameter} does not say "
            f"of what. Write `{parameter.name}: list[Row]`, with a class Row that has the fields of one job, or "
            f"`{parameter.name}: list[Call]`."
        )
    if element is Call:
        anything = [Parameter("args", Parameter.VAR_POSITIONAL), Parameter("kwargs", Parameter.VAR_KEYWORD)]
        return Element(Call, parameter.name, Signature(anything), {}, _no_element)
    try:
        return _element_with_fields(element, parameter.name)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{option}= of task {task!r} makes a job of each element of {parameter.name!r}, and {element!r} does not "
            f"say what a call takes: {error}. Use a dataclass, a msgspec Struct, a pydantic model or a TypedDict, or "
            f"`{parameter.name}: list[Call]`."
        ) from error


def _list_parameter(spec: FuncSpec[Any], option: str) -> Parameter:
    """The only parameter that has to be given, or the first one."""
    parameters = [
        parameter
        for parameter in spec.signature.parameters.values()
        if parameter.default is not INJECT and parameter.kind in (Parameter.POSITIONAL_ONLY, _EITHER)
    ]
    required = [each.name for each in spec.signature.parameters.values() if _is_required(each)]
    if len(required) > 1 or not parameters or required not in ([], [parameters[0].name]):
        found = f"{', '.join(required)} have to be given" if len(required) > 1 else "it takes none"
        raise ConfigurationError(
            f"{option}= of task {spec.name!r} needs a function that takes one list, of which each job is an element; "
            f"{found}. Make one class with these fields, and take a list of it: `rows: list[Row]`."
        )
    return parameters[0]


_EITHER: Final = Parameter.POSITIONAL_OR_KEYWORD


def _is_required(parameter: Parameter) -> bool:
    is_rest = parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    return parameter.default is Parameter.empty and not is_rest


def _no_element(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """A :class:`Call` is made with the id of its job: see :meth:`Element.build`."""
    raise NotImplementedError


# -- types with fields -------------------------------------------------------------------------------------------------


def _element_with_fields(element: Any, name: str) -> Element:
    """TypeError or ValueError if a call cannot be made of the type."""
    kind = get_origin(element) or element
    if is_typeddict(kind):
        signature, hints = _typed_dict_signature(kind)
        return Element(element, name, signature, hints, _by_name(signature, dict))
    if not (inspect.isclass(kind) and _has_fields(kind)):
        raise TypeError("it has no fields")
    own = inspect.signature(kind)
    hints = resolve_hints(kind)
    types = {
        key: _plain(hint)
        for key, parameter in own.parameters.items()
        if (hint := _hint(parameter, hints)) is not Parameter.empty
    }
    if _is_pydantic(kind):  # it takes names only; its fields have an order all the same
        signature = _with_positions(own)
        return Element(element, name, _without_factories(signature), types, _by_name(signature, kind))
    return Element(element, name, _without_factories(own), types, lambda args, kwargs: kind(*args, **kwargs))


def _has_fields(kind: type) -> bool:
    return (
        dataclasses.is_dataclass(kind)
        or issubclass(kind, msgspec.Struct)
        or hasattr(kind, "__attrs_attrs__")
        or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
        or _is_pydantic(kind)
    )


def _is_pydantic(kind: type) -> bool:
    return hasattr(kind, "model_fields") and hasattr(kind, "model_validate")


def _hint(parameter: Parameter, hints: Mapping[str, Any]) -> Any:
    if isinstance(parameter.annotation, str | ForwardRef):
        return hints.get(parameter.name, Parameter.empty)
    return parameter.annotation


def _plain(hint: Any) -> Any:
    """The type of a value, without what says how the field is given."""
    if isinstance(hint, dataclasses.InitVar):
        return hint.type
    return get_args(hint)[0] if get_origin(hint) in (Required, NotRequired) else hint


def _typed_dict_signature(kind: Any) -> tuple[Signature, dict[str, Any]]:
    hints = resolve_hints(kind)
    parameters = [
        Parameter(key, Parameter.KEYWORD_ONLY, default=Parameter.empty if _is_needed(kind, key, hints) else None)
        for key in (*hints, *(key for key in kind.__annotations__ if key not in hints))
    ]
    return _with_positions(Signature(parameters)), {key: _plain(hint) for key, hint in hints.items()}


def _is_needed(kind: Any, key: str, hints: Mapping[str, Any]) -> bool:
    """Whether a dict has to have the key. Where annotations are text, only the resolved one says so."""
    marker = get_origin(hints.get(key))
    return marker is Required or (marker is not NotRequired and key in kind.__required_keys__)


def _with_positions(signature: Signature) -> Signature:
    """Parameters that are given by name may be given by position, too, in their order: as far as Python allows."""
    parameters: list[Parameter] = []
    are_positional = True
    for parameter in signature.parameters.values():
        is_optional = bool(parameters) and parameters[-1].default is not Parameter.empty
        are_positional &= parameter.kind is Parameter.KEYWORD_ONLY and not (is_optional and _is_required(parameter))
        parameters.append(parameter.replace(kind=_EITHER) if are_positional else parameter)
    return signature.replace(parameters=parameters)


def _without_factories(signature: Signature) -> Signature:
    """A default that a factory makes is not known before the element is made; keys of limits take it for None."""
    parameters = [
        parameter.replace(default=None) if repr(parameter.default) == "<factory>" else parameter
        for parameter in signature.parameters.values()
    ]
    return signature.replace(parameters=parameters)


def _by_name(signature: Signature, make: Callable[..., Any]) -> Callable[..., Any]:
    """Make an element of named values only."""
    rest = next((key for key, each in signature.parameters.items() if each.kind is Parameter.VAR_KEYWORD), None)

    def build(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        more = given.pop(rest, {}) if rest is not None else {}
        return make(**given, **more)

    return build
