"""Job ids: UUID version 7 (RFC 9562), which sort by the time they were made and so append to an index.

Ids and names are texts that every database must be able to hold and to compare; what cannot be held is refused where it
is written.
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
    """A user's generator of ids, made to give text; ConfigurationError where what it gives cannot be an id."""
    if generator is new_id:
        return new_id

    def make() -> str:
        made = generator()
        text = "" if made is None else str(made)
        check_text(text, what=f"id that the uuid_generator {generator!r} made")
        return text

    return make


def check_text(value: Any, *, what: str) -> str:
    """``value``, a text that is not empty and that any database can hold; else ConfigurationError naming ``what``."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"The {what} is {value!r}; it must be a text that is not empty.")
    if not is_storable(value):
        raise ConfigurationError(
            f"The {what} is {value!r}; it must be without NUL characters and surrogates (halves of characters), which "
            "no database can hold. Replace them."
        )
    return value if type(value) is str else str.__str__(value)  # the member of an enum, as the text that it is


def is_storable(text: str) -> bool:
    """Whether every database can hold ``text``: no NUL, and nothing that UTF-8 cannot say."""
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
