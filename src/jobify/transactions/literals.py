"""Values as literals of PostgreSQL, for a driver whose parameters depend on settings of the connection.

A literal is pure ASCII and means the same under any setting of the session (``standard_conforming_strings``,
``client_encoding``, ``backslash_quote``): a text is in ``E''`` quotes, with a backslash doubled, a quote doubled, and
any other character beyond ASCII as its code point.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

__all__ = ("literal", "with_literals")

_PLACEHOLDER: Final = re.compile(r"\$(\d+)")


def with_literals(statement: str, parameters: Sequence[Any]) -> str:
    """The statement with each ``$1`` replaced."""
    if not parameters:
        return statement
    literals = [literal(value) for value in parameters]
    return _PLACEHOLDER.sub(lambda match: literals[int(match[1]) - 1], statement)


def literal(value: Any) -> str:
    """A value as it stands in a statement: None, a boolean, a number, a text, bytes, or a list of one of these."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"({value})"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return _quoted("{" + ",".join([_element(one) for one in value]) + "}")
    if isinstance(value, float):
        return f"{_quoted(repr(value))}::float8"
    if isinstance(value, bytes):
        return rf"E'\\x{value.hex()}'::bytea"
    raise TypeError(f"{type(value).__name__} has no literal")


def _element(value: Any) -> str:
    """A value as it stands in the text of an array."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, str):
        return '"{}"'.format(value.replace("\\", "\\\\").replace('"', '\\"'))
    if isinstance(value, bytes):
        return rf'"\\x{value.hex()}"'
    return repr(value)


def _quoted(text: str) -> str:
    text = text.replace("\\", "\\\\").replace("'", "''")
    if not text.isascii():
        text = "".join([one if one.isascii() else f"\\U{ord(one):08x}" for one in text])
    return f"E'{text}'"
