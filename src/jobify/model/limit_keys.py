"""Keys from the arguments of a call: of limits, of unique jobs, of calls that are merged.

A key is stored as JSON, so that 7 and "7" are two keys, and None is one like any other.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, TypeAlias

import msgspec

from jobify.exceptions import ConfigurationError, PayloadError
from jobify.model.job_options import JobOptions
from jobify.model.signature import is_async_callable
from jobify.runtime.importable import name_of
from jobify.types import INJECT

__all__ = ("CallKey", "Key", "KeyReader", "Keys", "as_key", "checked_keys", "key_at", "key_text")

Key: TypeAlias = str | Callable[..., Any]
"""A path into the arguments, or a function of them."""

Keys: TypeAlias = tuple[Key, ...] | None
"""Several of them together. None: all arguments."""

_MISSING: Final = object()
_LONGEST: Final = 200
"""Characters of a key of a call that is stored as it is; of a longer one a digest is."""
_LONGEST_VALUE: Final = 500
"""Bytes of a value. An index of PostgreSQL takes 2,700."""
_SHOWN: Final = 100


def key_text(key: Key) -> str:
    """The text under which a key is stored: a path, or the name of a function."""
    if isinstance(key, str):
        if not all(part.isidentifier() or part.isdecimal() for part in key.split(".")):
            raise ConfigurationError(
                f"The key {key!r} is no path into the arguments: names (or places in lists) with dots between them, "
                "such as 'order.customer_id'."
            )
        return key
    if is_async_callable(key):
        raise ConfigurationError(f"The key {key!r} is an async function; it must be a plain one, or a path.")
    name = getattr(key, "__qualname__", "<")
    if not callable(key) or "<" in name:
        raise ConfigurationError(
            f"The key {key!r} must be a path into the arguments, such as 'order.customer_id', or a function at the top "
            "level of a module: other processes have to find it by its name."
        )
    return name_of(key)


def as_key(value: Any) -> str:
    """A key as JSON. What JSON does not have is its text; PayloadError if that differs from process to process. A long
    one is its beginning and a digest.

    >>> as_key("shop-7"), as_key(7), as_key(None)
    ('"shop-7"', '7', 'null')
    """
    try:
        encoded = msgspec.json.encode(value, enc_hook=_text, order="sorted")
    except PayloadError:
        raise
    except (TypeError, ValueError, OverflowError, RecursionError):  # half of a surrogate pair, a dict by tuples
        encoded = msgspec.json.encode(ascii(value))
    return encoded.decode() if len(encoded) <= _LONGEST_VALUE else _shortened(encoded)


def _text(value: Any) -> str:
    kind = type(value)
    if all(getattr(kind, name) is getattr(object, name) for name in ("__str__", "__repr__")):  # it has an address
        raise PayloadError(
            f"A {kind.__qualname__} is no key: nothing in its text is the same in another process. Use one of its "
            "attributes, or give the class a __str__."
        )
    return str(value)


def _shortened(key: bytes) -> str:
    beginning = key[:_SHOWN].decode(errors="ignore").strip('"')
    return msgspec.json.encode(f"{beginning}… {blake2b(key, digest_size=16).hexdigest()}").decode()


def checked_keys(key: Any) -> Keys:
    """One key, a tuple of keys, or None for all arguments; ConfigurationError for anything else."""
    if key is None:
        return None
    keys = key if isinstance(key, tuple) else (key,)
    if not keys:
        raise ConfigurationError("The key is an empty tuple. Name a parameter, or leave the key out.")
    for one in keys:
        key_text(one)
    return keys


def key_at(arguments: Mapping[str, Any], path: str) -> Any:
    """What a path leads to; None if something on the way is missing.

    >>> key_at({"order": {"shops": [{"id": 7}]}}, "order.shops.0.id")
    7
    """
    found: Any = arguments
    for part in path.split("."):
        found = _member(found, part)
        if found is _MISSING:
            return None
    return found


def _member(value: Any, part: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(part, _MISSING)
    if part.isdecimal():
        is_place = isinstance(value, Sequence) and not isinstance(value, str | bytes) and int(part) < len(value)
        return value[int(part)] if is_place else _MISSING
    return getattr(value, part, _MISSING)


class KeyReader:
    """Reads the keys of one task's limits; ``keys`` are paths, or functions, by their text."""

    def __init__(self, task: str, signature: inspect.Signature, keys: Mapping[str, str | Callable[..., Any]]) -> None:
        self._task = task
        self._signature = signature
        self._keys = keys

    @classmethod
    def of_paths(cls, task: str, signature: inspect.Signature, paths: Iterable[str]) -> KeyReader:
        """Reads keys that are declared elsewhere. LookupError for one that is no path into these arguments."""
        for path in paths:
            if ":" in path or path.partition(".")[0] not in signature.parameters:
                raise LookupError(f"the limits of its task have a key that is not known here: {path}")
        return cls(task, signature, {path: path for path in paths})

    def has_all(self, own: JobOptions) -> bool:
        """Whether a job has these keys already."""
        return self._keys.keys() <= own.limit_keys.keys()

    def options(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], own: JobOptions | None = None) -> str | None:
        """The options of a job with its keys, those that it has already unchanged. TypeError if the arguments do not
        fit, PayloadError if a function of them fails."""
        own = own or JobOptions()
        return msgspec.structs.replace(own, limit_keys={**self.read(args, kwargs), **own.limit_keys}).text()

    def read(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, str]:
        """The keys of a call, by their texts."""
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return {text: self._read_one(text, key, bound) for text, key in self._keys.items()}

    def _read_one(self, text: str, key: str | Callable[..., Any], bound: inspect.BoundArguments) -> str:
        if isinstance(key, str):
            return as_key(key_at(bound.arguments, key))
        try:
            return as_key(key(*bound.args, **bound.kwargs))
        except Exception as error:
            raise PayloadError(
                f"The key of a limit of task {self._task!r} cannot be read: {text} raised {type(error).__name__}: "
                f"{error}"
            ) from error


class CallKey:
    """Reads the one key of a call: several values, or all arguments, together."""

    def __init__(self, task: str, signature: inspect.Signature, keys: Keys) -> None:
        self._signature = signature
        self._keys = keys
        self._reader = KeyReader(task, signature, {key_text(key): key for key in keys or ()})

    def of(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """The key as text. TypeError if the arguments do not fit, PayloadError if it cannot be read."""
        if self._keys is None:
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            text = as_key({name: value for name, value in bound.arguments.items() if value is not INJECT})
        else:
            values = self._reader.read(args, kwargs)
            text = ",".join(values[key_text(key)] for key in self._keys)
        return text if len(text) <= _LONGEST else blake2b(text.encode(), digest_size=16).hexdigest()
