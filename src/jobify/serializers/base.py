"""The port between values and bytes.

A serializer has two methods and no state that a call changes: it is called from several threads at once. A class of
your own needs nothing else, and no base class::

    class Zipped:
        restores_types = True  # because the serializer inside does

        def __init__(self, inner: Serializer) -> None:
            self.inner = inner

        def dumpb(self, data: Any) -> bytes:
            return zlib.compress(self.inner.dumpb(data))

        def loadb(self, data: bytes) -> Any:
            return self.inner.loadb(zlib.decompress(data))

``restores_types`` is the only optional attribute. True means that it restores every value with its type, so arguments
are passed to it unchanged. False, or no attribute, means that it supports plain data only, so arguments that have an
annotation are converted first (see :mod:`jobify.serializers.codec`). An exception of ``dumpb`` or ``loadb`` reaches the
caller as a :class:`~jobify.exceptions.PayloadError`.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from functools import wraps
from importlib import import_module
from typing import Any, Final, Protocol, TypeVar, cast, runtime_checkable

from jobify.exceptions import PayloadError

__all__ = (
    "MAX_DEPTH",
    "RefusedValueError",
    "Serializer",
    "on_any_stack",
    "optional_library",
    "require_depth",
    "restores_types",
    "too_deep",
    "undecodable",
    "unencodable",
)


# -- depth -------------------------------------------------------------------------------------------------------------
# How deeply values may be nested: what is accepted can be read, on any stack.
#
# Encoders and decoders recurse, in Python or in C, and how far they come depends on where they are called. So there is
# one limit for every serializer of this package, far below what any stack bears, and it is applied where a value is
# written. A caller that is itself deep in a recursion gets a thread with a stack of its own.

MethodT = TypeVar("MethodT", bound=Callable[..., Any])

MAX_DEPTH: Final = 100
"""Containers and objects within one another. The two lists that hold the arguments of a call count, too."""

_SEQUENCES: Final = (list, tuple, set, frozenset, deque)
_MARKS: Final = ("__dataclass_fields__", "__struct_fields__", "__pydantic_fields__")
"""What the classes have whose objects are data."""
_ATOMS: Final = frozenset({str, int, float, bool, type(None), bytes})


def too_deep() -> PayloadError:
    """What to raise for a value that is nested too deeply."""
    return PayloadError(
        f"The value is nested too deeply, or contains itself: more than {MAX_DEPTH} levels. Pass it in parts."
    )


def require_depth(value: Any) -> None:
    """Raise PayloadError for a value of more than :data:`MAX_DEPTH` levels. Level by level, without recursion."""
    level = [] if type(value) in _ATOMS else [value]
    for _ in range(MAX_DEPTH):
        # By identity: what occurs many times on a level is looked at once.
        level = list({id(part): part for each in level for part in _parts(each) if type(part) not in _ATOMS}.values())
        if not level:
            return
    if any(isinstance(each, (*_SEQUENCES, dict)) or _has_parts(each) for each in level):
        raise too_deep()


def _has_parts(value: Any) -> bool:
    return any(True for _ in _parts(value))


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, _SEQUENCES):
        return value
    if isinstance(value, type) or not any(hasattr(type(value), mark) for mark in _MARKS):
        return ()
    names = getattr(type(value), "__slots__", ()) or getattr(type(value), "__struct_fields__", ())
    names = (names,) if isinstance(names, str) else names
    return [*getattr(value, "__dict__", {}).values(), *(getattr(value, name, None) for name in names)]


def on_any_stack(method: MethodT) -> MethodT:
    """Make ``dumpb`` or ``loadb`` independent of how deep its caller is in a recursion."""

    @wraps(method)
    def call(self: Any, data: Any) -> Any:
        try:
            return method(self, data)
        except RecursionError:
            return _in_thread(method, self, data)

    return cast(MethodT, call)


def _in_thread(method: Callable[..., Any], self: Any, data: Any) -> Any:
    answers: list[Any] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            answers.append(method(self, data))
        except RecursionError:
            errors.append(too_deep())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="jobify-stack")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return answers[0]


# -- base --------------------------------------------------------------------------------------------------------------


@runtime_checkable
class Serializer(Protocol):
    """Turns values into bytes and back."""

    @abstractmethod
    def dumpb(self, data: Any) -> bytes:
        """``data`` as bytes. Raises where ``loadb`` could not give an equal value back."""
        ...

    @abstractmethod
    def loadb(self, data: bytes) -> Any:
        """The value that ``dumpb`` was given. Raises for bytes that ``dumpb`` cannot have made."""
        ...


class RefusedValueError(PayloadError):
    """A value that would not come back as it was given, and where it sits.

    ``steps`` lead from the ``root`` to the value, ``("[0]", ".born")`` reads ``value[0].born``; ``reason`` says what is
    wrong with it, and what to do.
    """

    def __init__(self, reason: str, steps: tuple[str, ...] = (), root: str = "value") -> None:
        super().__init__(reason, steps, root)
        self.reason = reason
        self.steps = steps
        self.root = root

    def within(self, step: str) -> RefusedValueError:
        """The same refusal, seen from one container further out."""
        return RefusedValueError(self.reason, (step, *self.steps), self.root)

    def __str__(self) -> str:
        return f"{self.root}{''.join(self.steps)}: {self.reason}"


def restores_types(serializer: Serializer) -> bool:
    """Whether ``serializer`` declares that it restores every value with its type."""
    return bool(getattr(serializer, "restores_types", False))


def optional_library(name: str, *, extra: str) -> Any:
    """The module ``name``, or an ImportError that says which extra of Jobify brings it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"{name} is not installed. Run: pip install 'jobify[{extra}]'", name=name) from error


def unencodable(form: str, error: Exception) -> PayloadError:
    """What to raise when a library cannot write a value as ``form``. A RecursionError is raised as it is: with more
    room the value may be written."""
    if isinstance(error, RecursionError):
        raise error
    return PayloadError(f"The value cannot be written as {form}: {_text(error)}")


def undecodable(form: str, error: Exception) -> PayloadError:
    """What to raise for bytes that a library cannot read as ``form``. A RecursionError is raised as it is."""
    if isinstance(error, RecursionError):
        raise error
    return PayloadError(f"The stored bytes cannot be read as {form}: {_text(error)}")


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
