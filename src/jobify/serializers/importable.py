"""Names by which another process finds the same object: ``module:qualname``.

A script is a module with two names. Run by ``python -m shop.tasks`` or ``python tasks.py`` it is ``__main__``, imported
it is ``shop.tasks`` or ``tasks``. What is stored outlives the way in which the program was started, so ``__main__``
never appears in a name: its real name is the one in ``__spec__``, or else the stem of its file.
"""

from __future__ import annotations

import sys
from importlib import import_module
from os.path import basename, splitext
from types import ModuleType
from typing import Any, Final

__all__ = ("find", "name_of", "real_module_name")

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
    return f"{real_module_name(target.__module__)}:{target.__qualname__}"


def find(name: str) -> Any:
    """The object of this name; its module is imported if need be. ImportError if there is none.

    Only modules and classes are looked into, so that no attribute of an instance is computed on the way.
    """
    module_name, _, qualname = name.partition(":")
    target = _in_main(module_name, qualname)
    if target is not None:
        return target
    module = sys.modules.get(module_name) or _import(module_name, name)
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
    return target if getattr(target, "__module__", None) in _MAIN else None


def _import(module_name: str, name: str) -> ModuleType:
    try:
        return import_module(module_name)
    except Exception as error:
        raise ImportError(f"{name!r} cannot be imported: {error}", name=module_name) from error


def _walk(module: ModuleType, qualname: str) -> Any:
    target: Any = module
    for part in qualname.split("."):
        if not isinstance(target, ModuleType | type):
            raise AttributeError(f"{target!r} is neither a module nor a class")
        target = getattr(target, part)
    return target
