"""Encode any value as plain JSON data with tags, and decode it; find classes by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from math import isfinite
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Final

import msgspec

from jobify.exceptions import ConfigurationError, PayloadError
from jobify.runtime.importable import find, name_of
from jobify.serializers.base import RefusedValueError
from jobify.serializers.renamed import is_exception
from jobify.serializers.tagging.builtin_types import BY_TAG, BY_TYPE, Walk, each
from jobify.serializers.tagging.user_types import KINDS, kind_of

__all__ = ("RESERVED", "Tagging", "TypeNames", "untagged")


RESERVED: Final = "$"
"""The key that marks the reserved form."""

_ATOMS: Final = frozenset({type(None), bool})
_LONGEST_INT: Final = 10_000  # bits; Python and msgspec read ints of up to 4300 digits
_ADVICE: Final = "Pass what it is made of, or give the app a dumper and a loader (PydanticConverter, adaptix.Retort)."
_CODE: Final = (type, FunctionType, MethodType, BuiltinFunctionType, ModuleType, partial)


class Tagging:
    """Encodes any supported value as plain data, and decodes it. ``types`` are found by name besides what imported
    modules hold; ``modules`` are imported if need be.

    >>> Tagging().encode({"at": (1, 2)})
    {'at': {'$': 'tuple', 'v': [1, 2]}}
    >>> Tagging().decode({"at": {"$": "tuple", "v": [1, 2]}})
    {'at': (1, 2)}
    """

    def __init__(self, types: Sequence[type] = (), modules: Sequence[str] = ()) -> None:
        self._names = TypeNames(types, modules)

    def renaming(self, types: Mapping[str, type]) -> Tagging:
        """A copy that also knows earlier names of classes. ConfigurationError for a class that is never stored."""
        for name, cls in types.items():
            if kind_of(cls) is None and not is_exception(cls):
                raise ConfigurationError(
                    f"renamed_types has {name_of(cls)} for {name!r}, but no value of that class is ever stored: it is "
                    "no enum, dataclass, named tuple, Struct, model or exception. Remove it."
                )
        renamed = Tagging()
        renamed._names = self._names.renaming(types)
        return renamed

    def known_types(self) -> list[tuple[str, type | None]]:
        """See :meth:`TypeNames.known`."""
        return self._names.known()

    def encode(self, value: Any) -> Any:
        """Plain data that :meth:`decode` turns into an equal value. RefusedValueError if there is none."""
        cls = type(value)
        if cls in _ATOMS:
            return value
        write = _JSON.get(cls)
        if write is not None:
            return write(value, self.encode)
        tag = BY_TYPE.get(cls)
        if tag is not None:
            return _tagged(tag.name, value, self.encode)
        return self._encode_own(value, cls)

    def decode(self, data: Any) -> Any:
        """The value that :meth:`encode` was given. Malformed data raises any exception."""
        if type(data) is list:
            return [self.decode(item) for item in data]
        if type(data) is not dict:
            return data
        if RESERVED in data:
            return self._restore(data)
        return {key: self.decode(item) for key, item in data.items()}

    def _encode_own(self, value: Any, cls: type) -> Any:
        kind = kind_of(cls)
        if kind is None:
            raise RefusedValueError(_why_not(value, cls))
        return {RESERVED: kind.tag, "t": self._names.name(cls), "v": kind.dump(value, self.encode)}

    def _restore(self, data: dict[str, Any]) -> Any:
        name, payload = data[RESERVED], data["v"]
        tag = BY_TAG.get(name)
        if tag is not None:
            return tag.load(payload, self.decode)
        kind = KINDS.get(name)
        if kind is None:
            raise PayloadError(f"unknown tag {name!r}: the row was written by a newer release, or by something else")
        try:
            cls = self._names.find(data["t"])
        except ImportError as error:
            raise PayloadError(str(error)) from error
        if not issubclass(type(cls), type) or kind_of(cls) is not kind:
            raise PayloadError(f"{data['t']} is not, or no longer, a class of the kind {name!r}")
        return kind.load(cls, payload, self.decode)


def _tagged(name: str, value: Any, encode: Walk) -> Any:
    return {RESERVED: name, "v": BY_TAG[name].dump(value, encode)}


def _write_int(value: int, encode: Walk) -> Any:
    return value if value.bit_length() <= _LONGEST_INT else _tagged("int", value, encode)


def _write_float(value: float, encode: Walk) -> Any:
    return value if isfinite(value) else _tagged("float", value, encode)


def _write_str(value: str, encode: Walk) -> Any:
    return value if _has_utf8(value) else _tagged("str", value, encode)


def _write_list(value: list[Any], encode: Walk) -> Any:
    return each(enumerate(value), encode)


def _write_dict(value: dict[Any, Any], encode: Walk) -> Any:
    if RESERVED in value or not all(type(key) is str and _has_utf8(key) for key in value):
        return _tagged("dict", value, encode)
    return dict(zip(value, each(value.items(), encode), strict=True))


def _has_utf8(text: str) -> bool:
    """False for lone surrogates, which the names of files may hold."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_JSON: Final[dict[type, Callable[[Any, Walk], Any]]] = {
    int: _write_int,
    float: _write_float,
    str: _write_str,
    list: _write_list,
    dict: _write_dict,
}
"""The types of JSON. A few of their values have no JSON form and are tagged."""


def _why_not(value: Any, cls: type) -> str:
    if isinstance(value, _CODE):
        return f"{value!r} is code, not data. Pass a name that the task can look up."
    base = next((base for base in cls.__mro__[1:-1] if base in _JSON or base in BY_TYPE), None)
    if base is not None:
        return f"a {name_of(cls)} would come back as a plain {base.__name__}. Pass {base.__name__}(...) of it."
    return f"a {name_of(cls)} cannot be restored from JSON. {_ADVICE}"


# -- classes by name ---------------------------------------------------------------------------------------------------


class TypeNames:
    """The classes of imported modules and of ``modules``, and those that were registered because no module has them."""

    def __init__(
        self, registered: Iterable[type] = (), modules: Iterable[str] = (), renamed: Mapping[str, type] | None = None
    ) -> None:
        self._modules = tuple(modules)
        self._renamed = dict(renamed or {})
        self._registered: dict[str, type] = {}
        for cls in registered:
            if self._registered.setdefault(name_of(cls), cls) is not cls:
                raise ConfigurationError(f"Two registered types are named {name_of(cls)}. Rename one of them.")

    def name(self, cls: type) -> str:
        """The name of ``cls``. RefusedValueError if that name does not lead back to it."""
        name = name_of(cls)
        if self._leads_to(name) is cls:
            return name
        raise RefusedValueError(
            f"the class {name} cannot be imported by that name, so nothing could restore this value. Define it at the "
            "top level of a module, or register it: ExtendedJSONSerializer(types=[...])."
        )

    def find(self, name: str) -> Any:
        """The object that ``name`` names. ImportError if there is none."""
        if name in self._renamed:
            return self._renamed[name]
        return self._registered[name] if name in self._registered else find(name, self._modules)

    def renaming(self, types: Mapping[str, type]) -> TypeNames:
        """A copy that also knows earlier names of classes."""
        return TypeNames(self._registered.values(), self._modules, {**self._renamed, **types})

    def known(self) -> list[tuple[str, type | None]]:
        """The registered and renamed classes by name, and the names of ``modules``."""
        return [*self._registered.items(), *self._renamed.items(), *((module, None) for module in self._modules)]

    def _leads_to(self, name: str) -> Any:
        try:
            return self.find(name)
        except ImportError:
            return None


# -- untagged ----------------------------------------------------------------------------------------------------------
# Show a stored value as plain JSON, for people and scripts, which need no types.
#
# Nothing of the app is looked up, so a value can also be shown where its classes do not exist (any more).

_LISTS: Final = frozenset({"tuple", "set", "frozenset"})
_PAIRS: Final = frozenset({"dict", "OrderedDict", "Counter"})
_FIELDS: Final = frozenset({"dataclass", "model"})


def untagged(data: Any) -> Any:
    """Plain JSON without the reserved form: a tuple is a list, a dataclass an object of its fields, a datetime a text.

    >>> untagged({"at": {"$": "tuple", "v": [1, {"$": "date", "v": "2026-01-31"}]}})
    {'at': [1, '2026-01-31']}
    >>> untagged({"$": "dataclass", "t": "shop:Point", "v": {"fields": {"x": 1}}})
    {'x': 1}
    """
    if type(data) is list:
        return [untagged(item) for item in data]
    if type(data) is not dict:
        return data
    if RESERVED not in data:
        return {key: untagged(item) for key, item in data.items()}
    try:
        return _restored(data[RESERVED], data["v"])
    except Exception:  # of a newer release, or of something else
        return {key: untagged(item) for key, item in data.items()}


def _restored(name: str, payload: Any) -> Any:
    if name in _LISTS:
        return untagged(payload)
    if name in _PAIRS:
        return {_key(key): untagged(item) for key, item in payload}
    if name == "deque":
        return untagged(payload["items"])
    if name in _FIELDS:
        return untagged(payload["fields"] | payload.get("extra", {}))
    tag = BY_TAG.get(name)
    return untagged(payload) if tag is None else _scalar(tag.load, payload)


def _key(key: Any) -> str:
    plain = untagged(key)
    return plain if isinstance(plain, str) else msgspec.json.encode(plain).decode()


def _scalar(load: Callable[[Any, Callable[[Any], Any]], Any], payload: Any) -> Any:
    """A value of a type of Python itself, as JSON writes it; what JSON has no word for is shown as ``str`` does."""

    def decode(data: Any) -> Any:
        return load_tagged(data) if type(data) is dict and RESERVED in data else data

    def load_tagged(data: dict[str, Any]) -> Any:
        return BY_TAG[data[RESERVED]].load(data["v"], decode)

    value = load(payload, decode)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, float):  # not finite
        return str(value)
    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except (TypeError, ValueError):
        return str(value)
