"""Texts of exception messages, and how exceptions are pickled."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jobify.runtime.untrusted_exceptions import text_of, type_name

__all__ = ("by_content", "described", "did_you_mean", "restored", "shown")


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
