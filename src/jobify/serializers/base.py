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

from abc import abstractmethod
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

from jobify.exceptions import PayloadError

__all__ = ("RefusedValueError", "Serializer", "optional_library", "restores_types", "undecodable", "unencodable")


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
