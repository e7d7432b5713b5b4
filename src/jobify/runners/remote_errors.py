"""How an exception goes from a child process to its parent.

Most exceptions pickle. Many do not: their ``__init__`` does not take their own ``args`` back, they hold a socket or a
lock, their class is local, or their ``__reduce__`` fails. An exception that arrives as something else is treated as
something else, so it is tried in order:

1. as it is, by pickle;
2. by its class, its arguments and its attributes, without calling ``__init__``; values that cannot travel are replaced
   by texts that look the same. The members of a group travel one by one;
3. by its name, its text and the names of its classes: :class:`~jobify.exceptions.RemoteError`.

The first form that comes back in the child with the same class and the same text is the one that is sent. All of this
runs code of the exception, in the child and guarded (:mod:`jobify.runtime.errortools`).
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple

from jobify.exceptions import RemoteError, shown
from jobify.model.control_flow import class_address
from jobify.model.tracebacks import RemoteTraceback, own_traceback
from jobify.runtime.errortools import call_guarded, is_plain, qualified_name

__all__ = ("Failure", "describe", "rebuild")

_PICKLE_TIMEOUT: Final = 5.0
"""Seconds that an exception has to be packed; no event loop waits for it."""

_PICKLING: Final = (
    *("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getnewargs__", "__getnewargs_ex__"),
    *("__init__", "__new__", "__setattr__"),
)
_ADDRESS: Final = re.compile(r" at 0x[0-9a-f]+")
_DICT: Final[Callable[[BaseException], dict[str, Any]]] = BaseException.__dict__["__dict__"].__get__


class Failure(NamedTuple):
    """An exception, as it travels. ``pickled`` is None if there is no way to rebuild it."""

    type_name: str
    message: str
    text: str
    pickled: bytes | None
    bases: tuple[str, ...] = ()


def describe(error: BaseException) -> Failure:
    """The description of ``error`` for the parent. Never fails."""
    if is_plain(error, hooks=_PICKLING) and not isinstance(error, BaseExceptionGroup):
        return _failure(error, _pickled(error))
    return _failure(error, call_guarded(lambda: _pickled(error), None, timeout=_PICKLE_TIMEOUT))


def rebuild(failure: Failure) -> BaseException:
    """The exception; a RemoteError if it cannot be rebuilt in this process. The traceback's text is its cause."""
    error: BaseException | None = None
    with suppress(BaseException):  # the code of the exception may raise whatever it likes
        found = pickle.loads(failure.pickled or b"")
        found = found.build() if isinstance(found, _ExceptionState) else found
        error = found if isinstance(found, BaseException) else None
    if error is None:
        error = RemoteError(failure.type_name, failure.message, failure.bases)
    BaseException.__dict__["__cause__"].__set__(error, RemoteTraceback(failure.text))  # past any __setattr__
    return error


class _Lookalike(str):
    """A text in place of a value that cannot travel. It is shown as the value would be."""

    __slots__ = ("shown_as",)

    shown_as: str

    def __repr__(self) -> str:
        return self.shown_as


class _ExceptionState(NamedTuple):
    """What an exception consists of: enough to rebuild it without its ``__init__``."""

    kind: type[BaseException]
    args: tuple[Any, ...]
    state: dict[str, Any]
    members: tuple[Failure, ...]

    @classmethod
    def of(cls, error: BaseException) -> _ExceptionState:
        native = _native_base(type(error))
        reduced: Any = native.__reduce__(error)
        args, state = reduced[1], (reduced[2] or {}) if len(reduced) > 2 else {}
        state = {**state, **_slots(error)}
        if hasattr(type(error), "__getattr__"):  # which needs its attributes, whatever they are
            state = {name: _sendable(value) for name, value in state.items()}
        else:
            state = {name: value for name, value in state.items() if _survives(value)}
        if isinstance(error, BaseExceptionGroup):
            members = tuple(_failure(each, _pickled(each)) for each in error.exceptions)
            return cls(type(error), (str(args[0]),), state, members)
        return cls(type(error), tuple(map(_sendable, args)), state, ())

    def build(self) -> BaseException:
        native = _native_base(self.kind)
        args = (*self.args, [rebuild(each) for each in self.members]) if self.members else self.args
        error = native.__new__(self.kind, *args)
        native.__init__(error, *args)
        for name, value in self.state.items():
            try:
                BaseException.__setattr__(error, name, value)
            except AttributeError:  # a property of the class has the name
                _DICT(error)[name] = value
        return error


def _failure(error: BaseException, pickled: bytes | None) -> Failure:
    bases: tuple[str, ...] = ()
    with suppress(Exception):
        bases = tuple(class_address(kind) for kind in type(error).__mro__)
    return Failure(qualified_name(error), shown(error), own_traceback(error), pickled, bases)


def _pickled(error: BaseException) -> bytes | None:
    """The first form of ``error`` that comes back as what it was."""
    text = _ADDRESS.sub("", shown(error))
    forms: list[Callable[[], Any]] = [lambda: error, lambda: _ExceptionState.of(error)]
    if isinstance(error, BaseExceptionGroup):
        del forms[0]
    elif _slots(error):
        forms.reverse()  # pickle leaves slots out
    for form in forms:
        with suppress(BaseException):
            data = pickle.dumps(form(), pickle.HIGHEST_PROTOCOL)
            found = pickle.loads(data)
            found = found.build() if isinstance(found, _ExceptionState) else found
            if type(found) is type(error) and _ADDRESS.sub("", shown(found)) == text:
                return data
    return None


def _native_base(kind: type[BaseException]) -> type[BaseException]:
    """The nearest class that the interpreter itself brings."""
    return next(base for base in kind.__mro__ if base.__module__ == "builtins" and not _is_made_in_python(base))


def _is_made_in_python(kind: type) -> bool:
    return bool(kind.__flags__ & 1 << 9)  # Py_TPFLAGS_HEAPTYPE


def _slots(error: BaseException) -> dict[str, Any]:
    slots = [vars(kind).get("__slots__", ()) for kind in type(error).__mro__]
    names = [name for each in slots for name in ([each] if isinstance(each, str) else each)]
    return {name: getattr(error, name) for name in names if hasattr(error, name)}


def _sendable(value: Any) -> Any:
    if _survives(value):
        return value
    text = _Lookalike(value)
    text.shown_as = repr(value)
    return text


def _survives(value: Any) -> bool:
    try:
        pickle.loads(pickle.dumps(value))
    except BaseException:
        return False
    return True
