"""Earlier names of classes that stored values and options name.

A stored value contains the name of its class, ``module:qualname``, and a stored retry policy those of exceptions. A
release that moves or renames such a class declares the earlier name, so that stored values are read as the current
class. New values are written with the new name.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final, Protocol, runtime_checkable

from jobify.exceptions import ConfigurationError
from jobify.runtime.importable import find, mro, name_of
from jobify.serializers.base import Serializer

__all__ = ("RenamedTypes", "Renaming", "checked_renamed_types", "is_exception", "with_renamed_types")

RenamedTypes = Mapping[str, type]
"""Classes by an earlier name, ``module:qualname``."""

_EXAMPLE: Final = 'renamed_types={"shop.models:Order": Order}'


@runtime_checkable
class Renaming(Protocol):
    """A serializer that stores the names of classes."""

    def renaming(self, types: RenamedTypes) -> Serializer:
        """A copy that reads what is stored under these names, too. ConfigurationError if it stores no such class."""
        ...


def checked_renamed_types(given: object) -> dict[str, type]:
    """The classes by earlier names. ConfigurationError names a pair that cannot work.

    A name may be written ``shop.models.Order`` as well, for a class at the top level of its module.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"renamed_types is {given!r}; it must be a dict of earlier names: {_EXAMPLE}.")
    checked: dict[str, type] = {}
    for name, cls in given.items():
        stored = _checked_name(name)
        _check_class(stored, cls)
        if stored in checked:
            raise ConfigurationError(f"renamed_types has {stored!r} twice. Remove one of them.")
        checked[stored] = cls
    return checked


def _checked_name(name: Any) -> str:
    if isinstance(name, type):
        raise ConfigurationError(
            f"renamed_types has the class {name_of(name)} where its earlier name belongs: {_EXAMPLE}."
        )
    module, colon, qualname = str(name).partition(":")
    if not colon:
        module, _, qualname = module.rpartition(".")
    parts = [*module.split("."), *qualname.split(".")]
    if not isinstance(name, str) or not all(part.isidentifier() for part in parts):
        raise ConfigurationError(
            f"renamed_types has {name!r}, which is no name of a class. Write its module and its name in there: "
            f"{_EXAMPLE}."
        )
    return f"{module}:{qualname}"


def _check_class(name: str, cls: Any) -> None:
    if not issubclass(type(cls), type):
        raise ConfigurationError(
            f"renamed_types has {cls!r} for {name!r}; it must be the class that there is now: {_EXAMPLE}."
        )
    if name_of(cls) == name:
        raise ConfigurationError(f"renamed_types has {name!r}, which is the name that this class has now. Remove it.")
    if name.partition(":")[0] not in sys.modules:
        return
    try:
        found = find(name)
    except ImportError:
        return
    if found is not cls:
        raise ConfigurationError(
            f"renamed_types has {name!r} for {name_of(cls)}, but there still is a {found!r} of that name, whose values "
            "could not be distinguished from those. Remove or rename it."
        )


def with_renamed_types(serializer: Serializer, types: RenamedTypes) -> Serializer:
    """``serializer``, as it reads earlier names, too. One that stores no names of classes is returned as it is."""
    if not types or not isinstance(serializer, Renaming):
        return serializer
    return serializer.renaming(types)


def is_exception(cls: type) -> bool:
    """Whether stored options may name it."""
    return BaseException in mro(cls)
