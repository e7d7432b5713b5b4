"""A short text that changes when the code of a task does.

A schedule that was stopped by its failures is revived by a release that changes what failed. To see that, the run that
stopped it notes the fingerprint of its task, and the next start compares. Moved lines, comments and formatting change
nothing. A fingerprint covers:

- the function itself and what is defined inside of it, behind any decorators;
- the functions and classes that this code names, and those that they name, as long as they are of the same module or of
  the same package. A cause that was mended in another package, in a setting or in the data, is not seen;
- never the values of variables, because these differ from process to process.

The bytecode is what is compared, so another release of Python counts as a change.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

__all__ = ("code_fingerprint", "code_parts")

_MAX_FUNCTIONS: Final = 2000
"""How many functions are looked at. Beyond that a change is seen only in the first ones."""


def code_fingerprint(function: Any, definition: str = "") -> str:
    """The fingerprint of ``function``, and of ``definition``: what else the task is, as text."""
    digest = blake2b(definition.encode("utf-8", "surrogatepass"), digest_size=16)
    for found in _reachable(function):
        for part in code_parts(found.__code__):
            digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


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
    """What ``code`` and the code inside of it consist of, as texts that are the same in each process."""
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
