"""A fingerprint of the code of an app, as this process has loaded it.

A stored call that does not fit the code is parked with this fingerprint, and a process with another one tries it. So
what counts is that the fingerprint differs where the call might fit; where it differs without need, the call is tried
once more and nothing is lost. It covers the tasks with their parameters, all that the modules of the app define (not
those that are installed, unless they hold tasks), which names lead to which classes, the settings that are given, and
the releases of Python and of this package.

It is made from what is loaded, never from files: those may be newer than the process. Values of variables are left out,
because they differ from process to process.
"""

from __future__ import annotations

import inspect
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from types import FunctionType, ModuleType
from typing import Any, Final

from jobify.runtime.code_fingerprint import code_parts

__all__ = ("app_code",)

_MAX_PARTS: Final = 50_000
"""Beyond so many pieces of code a change is seen only in the first ones."""
_OURS: Final = ("jobify.serializers", "jobify.typeadapter")
"""What of this package decides whether stored arguments can be read."""


def app_code(
    tasks: Iterable[tuple[str, Callable[..., Any]]],
    types: Iterable[tuple[str, type | None]] = (),
    settings: Iterable[str] = (),
) -> str:
    """The fingerprint of an app with these tasks (name and function), with what its serializer knows by name, and with
    settings that are texts."""
    digest = blake2b(repr(sys.version_info[:2]).encode(), digest_size=16)
    for count, part in enumerate(_parts(tasks, types, settings)):
        if count >= _MAX_PARTS:
            break
        digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def _parts(
    tasks: Iterable[tuple[str, Callable[..., Any]]],
    types: Iterable[tuple[str, type | None]],
    settings: Iterable[str],
) -> Iterator[str]:
    yield from settings
    for name, cls in sorted(types, key=_name):
        yield name
        if cls is not None:
            yield f"{cls.__module__}:{cls.__qualname__}"
            yield from _class(cls)
    tasks = sorted(tasks, key=_name)
    for name, function in tasks:
        yield name
        yield from _parameters(function)
        yield from _function(inspect.unwrap(function))
    for name, module in sorted(_modules({_package(function) for _, function in tasks}).items()):
        yield from _module(name, module)


def _name(named: tuple[str, object]) -> str:
    return named[0]


def _parameters(function: Callable[..., Any]) -> Iterator[str]:
    for parameter in inspect.signature(function).parameters.values():
        yield repr((parameter.name, parameter.kind.value, parameter.default is parameter.empty))


def _package(function: Any) -> str:
    return str(getattr(function, "__module__", "")).partition(".")[0]


def _modules(packages: set[str]) -> dict[str, ModuleType]:
    """The modules of the app: not those of Python, and of what is installed only those of ``packages``."""
    installed = tuple({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    found = {}
    for name, module in list(sys.modules.items()):
        top = name.partition(".")[0]
        file = getattr(module, "__file__", None)
        is_own = top in packages or (
            isinstance(file, str) and top not in sys.stdlib_module_names and not file.startswith(installed)
        )
        if isinstance(module, ModuleType) and (name.startswith(_OURS) or (is_own and top != "jobify")):
            found["__main__" if name == "__mp_main__" else name] = module
    return found


def _module(name: str, module: ModuleType) -> Iterator[str]:
    yield name
    names = vars(module)
    for key in sorted(map(str, list(names))):
        value = names.get(key)
        yield key
        if isinstance(value, type):
            yield f"{value.__module__}:{value.__qualname__}"
            if value.__module__ == module.__name__:
                yield from _class(value)
        elif isinstance(value, FunctionType) and value.__module__ == module.__name__:
            yield from _function(inspect.unwrap(value))


def _class(cls: type) -> Iterator[str]:
    """What a class is made of: the names of all, of fields and members too, and the code of its functions."""
    for base in cls.__bases__:
        yield f"{base.__module__}:{base.__qualname__}"
    attributes = vars(cls)
    for names in ("__annotations__", "__dataclass_fields__", "_member_map_", "__struct_fields__", "_fields"):
        try:
            yield repr([str(name) for name in attributes.get(names) or ()])
        except TypeError:  # of the user's own, under that name
            continue
    for key in sorted(attributes):
        yield key
        value = attributes[key]
        if isinstance(value, staticmethod | classmethod):
            value = value.__func__
        elif isinstance(value, property):
            value = value.fget
        if isinstance(value, FunctionType):
            yield from _function(value)
        elif isinstance(value, type) and value is not cls and value.__qualname__.startswith(f"{cls.__qualname__}."):
            yield from _class(value)


def _function(function: Any) -> Iterator[str]:
    if isinstance(function, FunctionType):
        yield from code_parts(function.__code__)
        yield str(len(function.__defaults__ or ()))
        yield repr(sorted(function.__kwdefaults__ or ()))
