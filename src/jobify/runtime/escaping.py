"""Text from outside, made safe to show: names, ids, errors and logs come from rows that any process may have written.

A terminal acts upon control characters (it sets its title, moves the cursor, clears the screen), bidirectional marks
change the order in which a line reads, and a line end makes one line look like two. Every way to show such a text goes
through here.
"""

from __future__ import annotations

import json

__all__ = ("escaped", "escaped_json")


def escaped(text: str, keep: str = "") -> str:
    """``text`` with each character that is not printable as Python writes it; those of ``keep`` stay."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in keep else repr(each)[1:-1] for each in text)


def escaped_json(document: str) -> str:
    """A JSON document with each such character as JSON writes it, so that it still says the same. They stand in strings
    only; the line ends between values stay."""
    if document.isprintable():
        return document
    return "".join(each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in document)
