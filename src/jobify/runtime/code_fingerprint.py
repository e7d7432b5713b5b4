"""Fingerprints of code: short texts that change when the code of a task, or of an app, does.

*A task.* A schedule that was stopped by its failures is revived by a release that changes what failed. To notice that,
the run that stopped it stores the fingerprint of its task, and the next start compares. Moved lines, comments and
formatting change nothing. The fingerprint covers:

- the function itself and what is defined inside of it, behind any decorators;
- the functions and classes that this code names, and those that they name, as long as they are in the same module or in
  the same package. A fix in another package, in a setting or in the data is not seen;
- never the values of variables, because these differ from process to process.

*An app.* A stored call that does not fit the code is parked with the fingerprint of the app, and a process with another
fingerprint tries it. So the fingerprint must differ where the call might fit; where it differs without need, the call
is only tried once more. It covers the tasks with their parameters, all that the modules of the app define (installed
modules only if they hold tasks), which names lead to which classes, the settings that are given, and the releases of
Python and of this package. It is made from loaded code, never from files, which may be newer than the process.

The bytecode is compared, so another release of Python counts as a change.
"""

from __future__ import annotations

import functools
import inspect
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from hashlib import blake2b

__all__ = ("app_code", "code_fingerprint", "code_parts")

_MAX_FUNCTIONS: Final = 2000
"""How many functions are covered; changes in others are not seen."""


def code_fingerprint(function: Any, definition: str = "") -> str:
    """The fingerprint of ``function``, and of ``definition``: what else the task is, as text."""
    digest = _digest(definition.encode("utf-8", "surrogatepass"))
    for found in _reachable(function):
        for part in code_parts(found.__code__):
            digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def _digest(data: bytes) -> blake2b:
    """A digest that begins with these bytes."""
    from hashlib import blake2b  # half a megabyte, which most processes do not need

    return blake2b(data, digest_size=16)


def _reachable(function: Any) -> Iterator[FunctionType]:
    """Python functions that calling ``function`` may call, each once, in an order that depends on the code only."""
    waiting = list(_functions_in(function))
    home = waiting[0].__module__ if waiting else None
    seen: set[int] = set()
    while waiting and len(seen) < _MAX_FUNCTIONS:
        found = waiting.pop(0)
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        for value in _named_by(found):
            waiting += [each for each in _functions_in(value) if _is_near(each.__module__, home)]


def _functions_in(value: Any) -> Iterator[FunctionType]:
    """The Python functions that a value is, or has as methods."""
    while isinstance(value, functools.partial):
        value = value.func
    if not inspect.isclass(value) and callable(value):
        value = inspect.unwrap(value)
        value = getattr(value, "__func__", value)
    if isinstance(value, FunctionType):
        yield value
        return
    for kind in (value if inspect.isclass(value) else type(value)).__mro__:
        for attribute in vars(kind).values():
            method = getattr(attribute, "__func__", None) or getattr(attribute, "fget", None) or attribute
            if isinstance(method, FunctionType):
                yield method


def _named_by(function: FunctionType) -> Iterator[Any]:
    """The values that the code of ``function`` names and that may be, or hold, functions."""
    names = list(_names(function.__code__))
    variables: Mapping[str, Any] = function.__globals__
    for name in names:
        value = variables.get(name)
        if isinstance(value, ModuleType):
            yield from (vars(value).get(other) for other in names)
        else:
            yield value
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # it is empty
            continue


def _names(code: CodeType) -> Iterator[str]:
    for nested in _codes(code):
        yield from nested.co_names


def _codes(code: CodeType) -> Iterator[CodeType]:
    """``code``, and what is defined inside of it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def code_parts(code: CodeType) -> Iterator[str]:
    """The parts of ``code`` and of the code inside of it, as texts that are the same in each process."""
    for nested in _codes(code):
        yield nested.co_code.hex()
        yield repr((nested.co_name, nested.co_names, nested.co_varnames, nested.co_freevars))
        yield from map(_constant, nested.co_consts)


def _constant(value: object) -> str:
    if isinstance(value, CodeType):
        return "code"
    if isinstance(value, frozenset):  # its order differs from process to process
        return repr(sorted(map(_constant, value)))
    if isinstance(value, tuple):
        return repr([_constant(each) for each in value])
    return repr(value)


def _is_near(module: str | None, home: str | None) -> bool:
    """Whether a function of ``module`` belongs to the code of ``home``."""
    if module is None or home is None or home == "__main__":
        return module == home
    return module.partition(".")[0] == home.partition(".")[0]


# -- an app ------------------------------------------------------------------------------------------------------------

_MAX_PARTS: Final = 50_000
"""How many pieces of code are covered; changes in others are not seen."""
_OURS: Final = ("jobify.serializers", "jobify.typeadapter", "jobify.runtime.importable")
"""The parts of this package that decide whether stored arguments can be read."""


def app_code(
    tasks: Iterable[tuple[str, Callable[..., Any]]],
    types: Iterable[tuple[str, type | None]] = (),
    settings: Iterable[str] = (),
) -> str:
    """The fingerprint of an app with these tasks (name and function), with what its serializer knows by name, and with
    settings that are texts."""
    digest = _digest(repr(sys.version_info[:2]).encode())
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
        value: Any = names.get(key)
        yield key
        kind = type(value)  # not isinstance(), which asks the value for its class: a lazy one of a framework may refuse
        if issubclass(kind, type):
            yield f"{value.__module__}:{value.__qualname__}"
            if value.__module__ == module.__name__:
                yield from _class(value)
        elif kind is FunctionType and value.__module__ == module.__name__:
            yield from _function(inspect.unwrap(value))


def _class(cls: type) -> Iterator[str]:
    """The parts of a class: all names, those of fields and members as well, and the code of its functions."""
    for base in cls.__bases__:
        yield f"{base.__module__}:{base.__qualname__}"
    attributes = vars(cls)
    for names in ("__annotations__", "__dataclass_fields__", "_member_map_", "__struct_fields__", "_fields"):
        try:
            yield repr([str(name) for name in attributes.get(names) or ()])
        except TypeError:  # an attribute of the user with that name
            continue
    for key in sorted(attributes):
        yield key
        value: Any = attributes[key]
        if issubclass(type(value), staticmethod | classmethod):
            value = value.__func__
        elif issubclass(type(value), property):
            value = value.fget
        if type(value) is FunctionType:
            yield from _function(value)
        elif issubclass(type(value), type) and value.__qualname__.startswith(f"{cls.__qualname__}."):  # not itself
            yield from _class(value)


def _function(function: Any) -> Iterator[str]:
    if isinstance(function, FunctionType):
        yield from code_parts(function.__code__)
        yield str(len(function.__defaults__ or ()))
        yield repr(sorted(function.__kwdefaults__ or ()))
