"""Names by which another process finds the same object: ``module:qualname``.

A script is a module with two names. Run by ``python -m shop.tasks`` or ``python tasks.py`` it is ``__main__``, imported
it is ``shop.tasks`` or ``tasks``. What is stored outlives the way in which the program was started, so ``__main__``
never appears in a name: its real name is the one in ``__spec__``, or else the stem of its file.

A class of this package that users import from ``jobify`` is named ``jobify:Cron``, because the module that defines it
may change from one release to the next. For the same reason a name that an earlier release stored, such as
``jobify.cron:Cron``, finds the class that ``jobify`` exports by that name now.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from importlib import import_module
from os.path import basename, splitext
from types import FunctionType, ModuleType
from typing import Any, Final

__all__ = ("exported", "find", "held", "mro", "name_of", "real_module_name")

_ABSENT: Final = object()
_mro: Final = type.__dict__["__mro__"].__get__
_class_attributes: Final = type.__dict__["__dict__"].__get__
_module_attributes: Final = vars(ModuleType)["__dict__"].__get__

_PACKAGE: Final = __name__.partition(".")[0]
_ADDRESSES: Final = (f"{_PACKAGE}.exceptions",)
"""Modules of this package that users import from, and whose classes are stored under their names."""

_EARLIER: Final = tuple(f"{_PACKAGE}.{name}" for name in ("misfire", "records", "status", "triggers"))
"""Modules of this package whose classes earlier releases stored under these names, exported or not."""

_MAIN: Final = ("__main__", "__mp_main__")  # the second one is the main module of a spawned child


def real_module_name(name: str) -> str:
    """``name``, or for the main module of this process the name by which others import it.

    An interactive session has no such name: it stays ``__main__``.
    """
    if name not in _MAIN:
        return name
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name not in _MAIN:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return splitext(basename(file))[0] if file else "__main__"


def name_of(target: Any) -> str:
    """The name of a class or function. Whether :func:`find` finds it again is another question.

    >>> from decimal import Decimal
    >>> name_of(Decimal)
    'decimal:Decimal'
    """
    module_name, qualname = real_module_name(target.__module__), target.__qualname__
    is_ours = module_name is not None and module_name.startswith(f"{_PACKAGE}.")  # None: of a builtin type's method
    if is_ours and module_name not in _ADDRESSES and exported(qualname) is target:
        module_name = _PACKAGE
    return f"{module_name}:{qualname}"


def exported(name: str) -> Any | None:
    """What this package exports to its users by this name."""
    package = sys.modules[_PACKAGE]
    return getattr(package, name) if name in package.__all__ else None


def find(name: str, modules: Collection[str] = ()) -> Any:
    """The object of this name in a module that is imported already. ImportError if there is none.

    A name comes from a row, and no row decides what is imported: only ``modules``, which the app has named, and what is
    below them are imported if need be. No code runs on the way, neither a module's ``__getattr__`` nor a metaclass's.
    """
    module_name, _, qualname = name.partition(":")
    target = _in_main(module_name, qualname)
    if target is None and module_name.partition(".")[0] == _PACKAGE:
        target = exported(qualname)
    if target is not None:
        return target
    module = sys.modules.get(module_name)
    if module is None and module_name in _EARLIER:
        module = _import(module_name, name)
    if module is None and any(module_name == named or module_name.startswith(f"{named}.") for named in modules):
        module = _import(module_name, name)
    if module is None:
        raise ImportError(
            f"{name!r} cannot be found, because this process has not imported {module_name!r}, and a stored value "
            "imports nothing. Import that module where the app is defined, or name it: "
            f"ExtendedJSONSerializer(modules=[{module_name!r}])",
            name=module_name,
        )
    try:
        return _walk(module, qualname)
    except AttributeError as error:
        raise ImportError(f"{name!r} cannot be found: {error}", name=module_name) from None


def _in_main(module_name: str, qualname: str) -> Any | None:
    """What the main module defines under this name. A launcher may share its stem with the package it starts."""
    if module_name != real_module_name("__main__"):
        return None
    try:
        target = _walk(sys.modules["__main__"], qualname)
    except AttributeError:
        return None
    return target if held(target, "__module__") in _MAIN else None


def _import(module_name: str, name: str) -> ModuleType:
    try:
        return import_module(module_name)
    except Exception as error:
        raise ImportError(f"{name!r} cannot be imported: {error}", name=module_name) from error


def _walk(module: ModuleType, qualname: str) -> Any:
    target: Any = module
    for part in qualname.split("."):
        if not issubclass(type(target), ModuleType | type):
            raise AttributeError(f"a {type(target).__name__} is neither a module nor a class")
        found = held(target, part, _ABSENT)
        if found is _ABSENT:
            raise AttributeError(f"there is no {part!r}")
        target = found
    return target


def held(target: Any, name: str, default: Any = None) -> Any:
    """What a module or a class holds under ``name``, as it is: nothing is computed."""
    if issubclass(type(target), type):
        for base in mro(target):
            attributes = _class_attributes(base)
            if name in attributes:
                return attributes[name]
        return default
    if issubclass(type(target), ModuleType):
        return _module_attributes(target).get(name, default)
    return getattr(target, name, default) if type(target) is FunctionType else default


def mro(cls: type) -> tuple[type, ...]:
    """The class and its bases, without code of its metaclass."""
    found: tuple[type, ...] = _mro(cls)
    return found
