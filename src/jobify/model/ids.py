"""Job ids: UUID version 7 (RFC 9562), which sort by the time they were made and so append to an index.

Ids and names are texts that every database must be able to store and to compare; others are refused where they are
written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from uuid_utils import uuid7

from jobify.exceptions import ConfigurationError

__all__ = ("check_text", "is_storable", "new_id", "text_ids")


def new_id() -> str:
    """A new time-ordered id."""
    return str(uuid7())


def text_ids(generator: Callable[[], Any]) -> Callable[[], str]:
    """Wrap a user's generator of ids so that it returns texts; ConfigurationError if it returns no valid id."""
    if generator is new_id:
        return new_id

    def make() -> str:
        made = generator()
        text = "" if made is None else str(made)
        check_text(text, what=f"id that the uuid_generator {generator!r} made")
        return text

    return make


def check_text(value: Any, *, what: str) -> str:
    """``value``, a text that is not empty and that any database can store; else ConfigurationError naming ``what``."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"The {what} is {value!r}; it must be a text that is not empty.")
    if not is_storable(value):
        raise ConfigurationError(
            f"The {what} is {value!r}; it must be without NUL characters and surrogates (halves of characters), which "
            "no database can hold. Replace them."
        )
    return value if type(value) is str else str.__str__(value)  # the member of an enum, as the text that it is


def is_storable(text: str) -> bool:
    """Whether every database can store ``text``: it has no NUL, and can be encoded in UTF-8."""
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
