"""How a child process finds a task's function: by the name under which anyone can import it.

A function cannot be sent to another process, only named: ``module`` and ``qualname``. The decorated name usually holds
a wrapper (a registered task), so the lookup follows ``.func`` to the function that was written. The main
script is known as ``__main__`` on both sides: :mod:`jobify.runners.child` imports it once more in the child, under the
rules of :mod:`multiprocessing`.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from jobify.exceptions import ConfigurationError

__all__ = ("Address", "find", "main_script", "process_address")


class Address(NamedTuple):
    """Where a function can be imported from, ``qualname`` with dots for a function inside a class."""

    module: str
    qualname: str

    def __str__(self) -> str:
        return f"{self.module}:{self.qualname}"


def process_address(func: Callable[..., Any]) -> Address:
    """The address of ``func``, for a task in run mode PROCESS.

    ConfigurationError for what no other process could find: a lambda, a function inside a function, a bound method, a
    partial or another callable object, and functions of an interactive session. Whether the name really leads to the
    function is known once the module is loaded: :func:`find`.
    """
    module, qualname = getattr(func, "__module__", None), getattr(func, "__qualname__", None)
    if not (inspect.isroutine(func) and module and qualname):
        raise _refusal(func, "it is no function with a name of its own")
    if "<lambda>" in qualname:
        raise _refusal(func, "a lambda has no name")
    if "<locals>" in qualname:
        raise _refusal(func, "it is made inside another function (a decorator without functools.wraps does that too)")
    if inspect.ismethod(func):
        raise _refusal(func, "it is bound to an object")
    if module == "__main__" and not _is_main_importable():
        raise _refusal(func, "__main__ is an interactive session, standard input, or the __main__.py of a package")
    return Address(module, qualname)


def find(address: Address) -> Callable[..., Any]:
    """Import the function at ``address``; the original, if the name holds a wrapper with ``.func``.

    Raises what the import of the module raises, or ConfigurationError if the module has no such name.
    """
    found: Any = importlib.import_module(address.module)
    try:
        for name in address.qualname.split("."):
            found = getattr(found, name)
    except AttributeError:
        raise ConfigurationError(
            f"There is no {address.qualname!r} in the module {address.module!r}, where a child process looks for the "
            "task. Keep the decorated function under its own name at the top level of its module."
        ) from None
    while not inspect.isroutine(found) and callable(getattr(found, "func", None)):
        found = found.func
    if not callable(found):
        raise ConfigurationError(f"{address} is {found!r}, not a function: another value took the task's name.")
    return found  # type: ignore[no-any-return]  # an attribute can be anything; it is callable


def main_script() -> str | None:
    """The file of the main script, if it is one. What is read from standard input has a name, and no file."""
    path = getattr(sys.modules["__main__"], "__file__", None)
    return path if path is not None and os.path.isfile(path) else None


def _is_main_importable() -> bool:
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return not (spec.name == "__main__" or spec.name.endswith(".__main__"))
    return main_script() is not None


def _refusal(func: Any, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"{func!r} cannot run in another process: {reason}. Write it as a `def` at the top level of a module, "
        "or choose run_mode='thread'."
    )
