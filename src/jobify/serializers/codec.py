"""From a call to bytes and back: the one place where serializer, dumper and loader meet.

A call is stored as ``[args, kwargs]``: the positional arguments in order, the others by name. So ``*args``,
``**kwargs`` and positional-only parameters come back the way they were given. A result is stored as itself.

What becomes of an argument, or a result, that has an annotation depends on what the app was given:

- nothing, or a serializer that declares ``restores_types``: it is handed to the serializer as it is.
- a plain serializer alone: :class:`~jobify.typeadapter.NativeConverter` converts it, and what the annotation would not
  bring back equal is refused.
- a dumper and a loader: they convert it. An object that is both needs to be given once. Where no serializer is given,
  plain JSON is enough. Converters of this package (:class:`~jobify.typeadapter.base.Exact`) and of adaptix are checked
  in the same way; a user's own decide what comes back.

What has no annotation, or ``Any``, goes to the serializer as it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from inspect import Parameter, Signature, getattr_static, isfunction
from typing import Any, Final, TypeVar
from uuid import UUID

from jobify.exceptions import ConfigurationError, PayloadError
from jobify.serializers.base import RefusedValueError, Serializer, restores_types
from jobify.serializers.extended_json import ExtendedJSONSerializer
from jobify.serializers.json import JSONSerializer
from jobify.serializers.renamed import RenamedTypes, checked_renamed_types, with_renamed_types
from jobify.serializers.roundtrip import require_same
from jobify.typeadapter.base import Dumper, Exact, Loader, NativeConverter, PassThrough

__all__ = (
    "UNTYPED",
    "Codec",
    "ObjectCodec",
    "ParameterTypes",
    "default_converter_for",
    "default_serializer",
    "parameter_types",
)

_SEQUENCES: Final = (list, tuple)
_NAMES: Final = frozenset({str})
_NOTHING: Final[frozenset[type]] = frozenset()
_PLAIN_VALUES: Final = frozenset({str, int, float, bool, type(None)})
"""Immutable, and restored by every serializer."""
_VALUES: Final = frozenset({bytes, datetime, date, timedelta, Decimal, UUID})
"""Immutable, and restored by those that restore types."""
_UNCHANGED: Final = frozenset({str, int, bool})
"""The annotations whose own values exact converters leave alone."""
_REMEDY: Final = "Pass a value of the annotated type, or correct the annotation."
_ADVICE: Final = "Pass a value of the annotated type, correct the annotation, or use ExtendedJSONSerializer."


@dataclass(frozen=True, slots=True)
class ParameterTypes:
    """The annotations of a function's parameters, as a call meets them; ``Any`` where there is none."""

    positional: tuple[Any, ...] = ()
    """Of the parameters that can be given by position, in order."""
    rest: Any = Any
    """Of each element of ``*args``."""
    named: Mapping[str, Any] = field(default_factory=dict)
    """Of the parameters that can be given by name."""
    extra: Any = Any
    """Of each value in ``**kwargs``."""

    def at(self, index: int) -> Any:
        """The type of the positional argument number ``index``."""
        return self.positional[index] if index < len(self.positional) else self.rest

    def of(self, name: str) -> Any:
        """The type of the argument given as ``name=``."""
        return self.named.get(name, self.extra)

    def after(self, count: int) -> ParameterTypes:
        """What is left when the first ``count`` positional arguments come from elsewhere."""
        return replace(self, positional=self.positional[count:]) if count else self


UNTYPED: Final = ParameterTypes()
"""No annotations."""


def parameter_types(signature: Signature, hints: Mapping[str, Any]) -> ParameterTypes:
    """Arrange ``hints``, the resolved annotations by parameter name; a parameter that is not in there has no type."""
    by_kind: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
    for name, parameter in signature.parameters.items():
        by_kind[parameter.kind][name] = hints.get(name, Any)
    either = by_kind[Parameter.POSITIONAL_OR_KEYWORD]
    return ParameterTypes(
        positional=(*by_kind[Parameter.POSITIONAL_ONLY].values(), *either.values()),
        rest=next(iter(by_kind[Parameter.VAR_POSITIONAL].values()), Any),
        named=either | by_kind[Parameter.KEYWORD_ONLY],
        extra=next(iter(by_kind[Parameter.VAR_KEYWORD].values()), Any),
    )


def default_serializer(dumper: Dumper | None, loader: Loader | None) -> Serializer:
    """The serializer of an app that names none: behind a converter plain JSON is enough."""
    return ExtendedJSONSerializer() if dumper is None and loader is None else JSONSerializer()


def default_converter_for(serializer: Serializer) -> PassThrough | NativeConverter:
    """The converter of an app that names none: a serializer that restores types needs none."""
    return PassThrough() if restores_types(serializer) else NativeConverter()


class Codec:
    """Encodes and decodes calls and results. Safe to use from several threads at once.

    Raises ConfigurationError for a serializer, dumper or loader that lacks a method; the methods raise PayloadError and
    nothing else.

    >>> codec = Codec()
    >>> codec.encode_call((1,), {"to": "ann"})
    b'[[1],{"to":"ann"}]'
    >>> codec.decode_call(b'[[1],{"to":"ann"}]')
    ((1,), {'to': 'ann'})
    """

    def __init__(
        self,
        serializer: Serializer | None = None,
        dumper: Dumper | None = None,
        loader: Loader | None = None,
        renamed_types: RenamedTypes | None = None,
    ) -> None:
        serializer = default_serializer(dumper, loader) if serializer is None else serializer
        self.renamed_types = checked_renamed_types(renamed_types)
        self.serializer = with_renamed_types(serializer, self.renamed_types)
        self._is_chosen = dumper is not None or loader is not None
        default = NativeConverter() if self._is_chosen else default_converter_for(self.serializer)
        self.dumper: Dumper = _half(Dumper, dumper, loader, default)
        self.loader: Loader = _half(Loader, loader, dumper, default)
        self._converts = not isinstance(default, PassThrough)
        self._is_plain = not restores_types(self.serializer)
        self._is_exact = _is_exact(self.dumper) and _is_exact(self.loader)
        exact = self.dumper if self._is_exact and isinstance(self.dumper, Exact) else None
        self._dump_value = _dump_only(self.dumper) if exact is None else exact.dump_exact
        self._keeps_plain = exact is not None and exact.keeps_plain
        self._advice = _REMEDY if self._is_chosen else _ADVICE
        self.frozen = _NOTHING if self._is_chosen else _PLAIN_VALUES if self._is_plain else _PLAIN_VALUES | _VALUES
        """The immutable types whose values do not change by encoding and decoding.

        Empty if a user's converter decides what is restored.
        """
        _require("serializer", self.serializer, Serializer, "dumpb(data) and loadb(data)")
        _require("dumper", self.dumper, Dumper, "dump(data, tp)")
        _require("loader", self.loader, Loader, "load(data, tp)")

    def encode_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], types: ParameterTypes = UNTYPED) -> bytes:
        """The bytes of a call. PayloadError names the argument that cannot be stored: ``args[0]``, ``kwargs['to']``."""
        if not self._converts:
            return self._dumpb([list(args), kwargs if type(kwargs) is dict else dict(kwargs)], _in_call)
        positional = [self._dump(value, types.at(index), f"args[{index}]") for index, value in enumerate(args)]
        named = {name: self._dump(value, types.of(name), f"kwargs[{name!r}]") for name, value in kwargs.items()}
        return self._dumpb([positional, named], _in_call)

    def decode_call(self, data: bytes, types: ParameterTypes = UNTYPED) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call. PayloadError if ``data`` holds none, or none that fit their annotations."""
        args, kwargs = _open_call(self._loadb(data))
        if not self._converts:
            return args, kwargs
        positional = [self._load(value, types.at(index), f"args[{index}]") for index, value in enumerate(args)]
        named = {name: self._load(value, types.of(name), f"kwargs[{name!r}]") for name, value in kwargs.items()}
        return tuple(positional), named

    def encode_result(self, value: Any, tp: Any = Any) -> bytes:
        """The bytes of what a task returned; ``tp`` is the annotation of its return value."""
        return self._dumpb(self._dump(value, tp, "result") if self._converts else value, _in_result)

    def encode_value(self, value: Any) -> bytes:
        """The bytes of a value that a task publishes on its way."""
        return self._dumpb(value, _as_it_is)

    def decode_result(self, data: bytes, tp: Any = Any) -> Any:
        """What a task returned; or, without ``tp``, what it published."""
        value = self._loadb(data)
        return self._load(value, tp, "result") if self._converts else value

    def _dump(self, value: Any, tp: Any, place: str) -> Any:
        if _is_untyped(tp):
            return value
        try:
            if type(value) is tp and self._keeps_plain and tp in _UNCHANGED:
                return value
            dumped, expected = self._dump_value(value, tp)
            dumped = _without_tuples(dumped) if self._is_plain else dumped
            if self._is_exact:
                require_same(expected, self.loader.load(dumped, tp), self._advice)
        except RefusedValueError as refused:
            raise RefusedValueError(refused.reason, refused.steps, place) from None
        except Exception as error:
            raise PayloadError(f"{place}: cannot be stored as {tp!r}: {_sentence(error)} {_REMEDY}") from error
        return dumped

    def _load(self, value: Any, tp: Any, place: str) -> Any:
        if _is_untyped(tp):
            return value
        try:
            return self.loader.load(value, tp)
        except Exception as error:
            raise PayloadError(f"{place}: cannot be restored as {tp!r}: {error}") from error

    def _dumpb(self, data: Any, locate: Callable[[RefusedValueError], PayloadError]) -> bytes:
        try:
            written = self.serializer.dumpb(data)
        except RefusedValueError as refused:
            raise locate(refused) from None
        except PayloadError:
            raise
        except Exception as error:
            raise PayloadError(f"{type(self.serializer).__name__} cannot write the value: {error}") from error
        if not isinstance(written, bytes):
            raise PayloadError(f"{type(self.serializer).__name__}.dumpb() gave {written!r}; it must give bytes.")
        return written

    def _loadb(self, data: bytes) -> Any:
        try:
            return self.serializer.loadb(data)
        except PayloadError:
            raise
        except Exception as error:
            raise PayloadError(f"{type(self.serializer).__name__} cannot read the stored bytes: {error}") from error


def _half(port: Any, given: Any, other: Any, default: Any) -> Any:
    """What to convert with in one direction: what was given for it, or for the other one if it can do both."""
    if given is not None:
        return given
    return other if isinstance(other, port) else default


def _sentence(error: Exception) -> str:
    """The message of an error as a sentence; a message of several lines is followed by a line end."""
    text = str(error).rstrip()
    return text + "\n" if "\n" in text else text if text.endswith(".") else f"{text}."


def _dump_only(dumper: Dumper) -> Callable[[Any, Any], tuple[Any, Any]]:
    return lambda value, tp: (dumper.dump(value, tp), value)


def _is_exact(converter: object) -> bool:
    """Whether what comes back is checked. A subclass that converts in its own way decides itself; a Retort of adaptix
    has no ``dump_exact``, and no conversion that it could expect."""
    kind = type(converter)
    if kind.__module__.partition(".")[0] == "adaptix":
        return True
    definers = {_definer(kind, name) for name in ("dump", "load", "dump_exact")}
    return len(definers) == 1 and None not in definers


def _definer(kind: type, name: str) -> type | None:
    return next((parent for parent in kind.__mro__ if name in vars(parent)), None)


def _require(role: str, given: object, port: Any, methods: str) -> None:
    if isinstance(given, type) and any(isfunction(getattr_static(given, name, None)) for name in _methods_of(port)):
        raise ConfigurationError(f"The {role} is an object, not a class. Did you mean {given.__name__}()?")
    if not isinstance(given, port):
        raise ConfigurationError(f"{given!r} cannot be the {role}: it lacks {methods}. See {port.__module__}.")


def _methods_of(port: Any) -> list[str]:
    return [name for name in vars(port) if not name.startswith("_")]


def _is_untyped(tp: Any) -> bool:
    return tp is Any or tp is object or isinstance(tp, TypeVar)


def _without_tuples(data: Any) -> Any:
    """What JSON would make of it. Not lossy here: the loader knows from the annotation what to make of a list."""
    if type(data) in (list, tuple):
        return [_without_tuples(item) for item in data]
    if type(data) is dict:
        return {key: _without_tuples(item) for key, item in data.items()}
    return data


def _in_call(refused: RefusedValueError) -> PayloadError:
    """The refusal of something in ``[args, kwargs]``, in the words of the caller."""
    which, *steps = refused.steps or ("",)
    root = {"[0]": "args", "[1]": "kwargs"}.get(which, refused.root)
    return RefusedValueError(refused.reason, tuple(steps), root)


def _as_it_is(refused: RefusedValueError) -> PayloadError:
    return refused


def _in_result(refused: RefusedValueError) -> PayloadError:
    return RefusedValueError(refused.reason, refused.steps, "result")


def _open_call(stored: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The two parts of a call; a serializer may have options that give tuples for lists, and bytes for names."""
    try:
        args, kwargs = stored
        named = {**kwargs}
        if not _NAMES.issuperset(map(type, named)):
            named = {str(name, "utf-8"): value for name, value in named.items()}
        if type(args) not in _SEQUENCES:
            raise TypeError(f"these are not the arguments of a call: {args!r}")
        return tuple(args), named
    except (TypeError, ValueError, AttributeError) as error:
        raise PayloadError(f"The row holds no call [args, kwargs]. Was it written by Jobify? ({error})") from error


class ObjectCodec:
    """A :class:`Codec` that encodes nothing, for storages in memory: values stay the objects that they are.

    A result is stored as a tuple of one, because None means that a row has no result.
    """

    def encode_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], types: ParameterTypes = UNTYPED) -> Any:
        return args, kwargs

    def decode_call(self, data: Any, types: ParameterTypes = UNTYPED) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = data
        return args, dict(kwargs)

    def encode_result(self, value: Any, tp: Any = Any) -> Any:
        return (value,)

    def decode_result(self, data: Any, tp: Any = Any) -> Any:
        (value,) = data
        return value

    def encode_value(self, value: Any) -> Any:
        return value
