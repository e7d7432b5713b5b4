"""Texts of exception messages, how exceptions are pickled, and how those of unknown code are read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import copy_context
from types import GetSetDescriptorType, MemberDescriptorType, MethodDescriptorType, WrapperDescriptorType
from typing import Any, Final, TypeVar
from weakref import WeakSet

__all__ = (
    "by_content",
    "call_guarded",
    "cause_of",
    "chain",
    "context_of",
    "described",
    "did_you_mean",
    "is_plain",
    "qualified_name",
    "restored",
    "shown",
    "text_of",
    "type_name",
)


def shown(value: object, limit: int = 10_000) -> str:
    """``value`` as a text that any log and any database can hold: not too long, and without what is no character.

    An exception may be of any size, may have no text at all because its ``__str__`` fails, and may carry half
    characters (a file name that is not UTF-8); none of that may keep the job that raised it from ending.
    """
    made = text_of(value)
    text = "<its text cannot be shown>" if made is None else made
    text = text if len(text) <= limit else f"{text[:limit]} ... ({len(text)} characters)"
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode("utf-8")


def described(error: BaseException) -> str:
    """``Type: message``; ``Type``, as Python has it, where there is no message."""
    message = shown(error)
    name = type_name(error)
    return f"{name}: {message}" if message else name


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is like this one."""
    import difflib  # of no use where nothing is misspelt

    return next(iter(difflib.get_close_matches(word, sorted(known), n=1)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The last sentence of an error about a word that is not ``known``."""
    words = list(known)
    close = closest(word, words)
    return f"Did you mean {close!r}?" if close else f"There are: {', '.join(words)}."


def restored(kind: type[Exception], args: tuple[Any, ...], attributes: dict[str, Any]) -> Exception:
    """An exception with this content, without a call of its ``__init__``."""
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(attributes)
    return error


def by_content(self: Exception) -> tuple[Any, ...]:
    """Pickle by content.

    The default calls the class with the message, which is not what the ``__init__`` of these exceptions takes.
    """
    return restored, (type(self), self.args, self.__dict__)


# -- untrusted exceptions ----------------------------------------------------------------------------------------------
# Call the code of foreign exception classes with a time limit and without side effects on the caller.
#
# The text of an exception is made by its class. ``__str__`` may raise, call ``sys.exit()`` or never return, and a
# ``__getattr__`` answers whatever a traceback asks for. A job must end all the same, and the event loop must go on. So
# code that belongs to an exception runs in a thread of its own that is waited for only a moment, and whatever it raises
# stays there. Nearly all exceptions bring no code along (:func:`is_plain`), and those need no thread.

T = TypeVar("T")

TIMEOUT: Final = 1.0
"""Seconds after which the code of an exception has failed. The event loop may wait for it."""

_HOOKS: Final = (
    *("__str__", "__repr__", "__getattr__", "__getattribute__", "__dir__", "__notes__", "__dict__", "args"),
    *("__cause__", "__context__", "__suppress_context__", "__traceback__"),
)
_NATIVE: Final = (GetSetDescriptorType, MemberDescriptorType, MethodDescriptorType, WrapperDescriptorType)
_SIMPLE: Final = (str, int, float, bool, bytes, type(None))
_LONGEST_CHAIN: Final = 1000

# What a class can override, as the interpreter has it.
_args: Final[Callable[[BaseException], tuple[Any, ...]]] = BaseException.__dict__["args"].__get__
_members: Final[Callable[[Any], tuple[BaseException, ...]]] = BaseExceptionGroup.__dict__["exceptions"].__get__
_name: Final[Callable[[type], str]] = type.__dict__["__name__"].__get__
_qualified_name: Final[Callable[[type], str]] = type.__dict__["__qualname__"].__get__
cause_of: Final[Callable[[BaseException], BaseException | None]] = BaseException.__dict__["__cause__"].__get__
context_of: Final[Callable[[BaseException], BaseException | None]] = BaseException.__dict__["__context__"].__get__

_hanging: WeakSet[type[Any]] = WeakSet()
"""Classes whose text took too long, so that it is not read again."""


def call_guarded(func: Callable[[], T], default: T, *, timeout: float | None = None) -> T:
    """What ``func`` returns, or ``default`` if it raises anything or takes too long."""
    results: list[T] = []

    def run() -> None:
        try:
            results.append(func())
        except BaseException:  # SystemExit, too: the code is foreign
            return

    thread = threading.Thread(target=copy_context().run, args=(run,), name="jobify-guard", daemon=True)
    try:
        thread.start()
    except (RuntimeError, MemoryError):  # the system has no thread left
        run()
    else:
        thread.join(TIMEOUT if timeout is None else timeout)
        if not results and not thread.is_alive():
            run()  # what depends on this very thread, such as a translation, gets it
    return results[0] if results else default


def is_plain(error: BaseException, *, hooks: tuple[str, ...] = ()) -> bool:
    """Whether the interpreter alone makes the text and the attributes of ``error``, and what ``hooks`` name."""
    source: Any = error.obj if type(error) is AttributeError else None
    return (
        type(type(error)) is type
        and not _brings_code(type(error), (*_HOOKS, *hooks))
        and all(type(value) in _SIMPLE for value in _args(error))
        and (source is None or not _brings_code(type(source), _HOOKS))
    )


def chain(error: BaseException) -> Iterator[BaseException]:
    """``error``, what each came from, and the members of groups."""
    left, seen = [error], set[int]()
    while left and len(seen) < _LONGEST_CHAIN:
        each = left.pop()
        if id(each) not in seen:
            seen.add(id(each))
            yield each
            members = _members(each) if isinstance(each, BaseExceptionGroup) else ()
            left += [other for other in (cause_of(each), context_of(each), *members) if other is not None]


def text_of(value: object) -> str | None:
    """``str(value)``; None if it fails."""
    if isinstance(value, BaseException) and not is_plain(value):
        return _foreign_text(value)
    with suppress(Exception):
        return str(value)
    return None


def _foreign_text(error: BaseException) -> str | None:
    if type(error) in _hanging:
        return None
    finished: list[bool] = []

    def make() -> str:
        try:
            return str.__str__(str(error))
        finally:
            finished.append(True)

    text = call_guarded(make, None)
    if not finished:
        _hanging.add(type(error))
    return text


def type_name(error: BaseException) -> str:
    """The name of its class, past any metaclass."""
    return _name(type(error))


def qualified_name(error: BaseException) -> str:
    """The same with the names of what the class is defined in."""
    return _qualified_name(type(error))


def _brings_code(kind: type, hooks: tuple[str, ...]) -> bool:
    return any(
        name in hooks and not isinstance(value, _NATIVE)
        for base in type.__dict__["__mro__"].__get__(kind)
        for name, value in type.__dict__["__dict__"].__get__(base).items()
    )
