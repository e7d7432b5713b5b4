"""The source speaks plainly: no oblique words, and one term for each concept.

The terms are those of the glossary in ARCHITECTURE.md. A word that was dropped for one of them must not come back, in
no name and in no sentence of ``src/``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

import pytest
from documents import ROOT

SOURCE = ROOT / "src" / "jobify"

OBLIQUE = ("whoever", "whom", "whomever", "somebody", "nobody", "anybody", "be it", "its like", "anew")
"""Say which process, task or caller does it; name the subject."""

DROPPED = {
    "asked": "requested, called",
    "alarm": "timer",
    "badge": "job info",
    "bell": "notifier",
    "bells": "notifiers",
    "board": "queries",
    "crew": "client threads",
    "desk": "backend, job operations, session",
    "ear": "local notifier",
    "ears": "local notifiers",
    "hands": "storage, process",
    "hear": "receive",
    "heard": "received",
    "hears": "receives",
    "leash": "control socket",
    "news": "notification, audience",
    "obedience": "command listener",
    "parting": "release at a shutdown",
    "portrait": "document, view",
    "rang": "notified",
    "ring": "notify",
    "ringing": "notifying",
    "rings": "notifies",
    "roster": "running attempts",
    "rung": "notified",
    "teller": "handle registry",
    "tellers": "notifiers",
    "told": "requested, notified, stored",
}
"""By the word: the terms that say the same."""

PHRASES = {
    "at birth": "already claimed at the insert",
    "born claimed": "inserted already claimed",
    "give back": "release",
    "given back": "released",
    "gives back": "releases",
    "giving back": "releasing",
    "look again": "check again",
    "on the dot": "at the due time",
    "on the spot": "non-blocking",
    "short way": "fast path",
    "storage is away": "storage is unavailable",
}

CLASSES = {
    "Access", "Admission", "Alarm", "Asked", "Badge", "Bell", "Beside", "Board", "Coding", "Contexts", "Crew", "Crowd",
    "Desk", "DirectGate", "Draft", "Drafts", "Ear", "Exchange", "Exits", "Feed", "Grip", "Handles",
    "Insertion", "Intake", "Lane", "Lanes", "LaneSlots", "Leash", "Life", "Line", "News", "Obedience", "Obstacle",
    "Order", "Orders", "Overview", "Placement", "Reads", "Roster", "Rows", "Rule", "Rules", "Shared", "Speaker",
    "Spot", "Submission", "Taker", "Target", "Targets", "Teller", "ThreadGate", "Tie", "Turns", "Voice", "Waits",
}  # fmt: skip
"""Names of classes that meant several things, or nothing to a newcomer."""

ALLOWED = {
    ("storage/sqlite/queries.sql", "bell"): "a column that databases have",
    ("storage/sqlite/notifier.py", "bell"): "a file name that processes of other releases send to",
    ("model/job_options.py", "asked"): "the name that rows have for request_digest",
}
"""By module and word: why it stays."""


TERMS = [tuple(term.split()) for term in (*OBLIQUE, *DROPPED, *PHRASES)]
BEGINNING = {first: [term for term in TERMS if term[0] == first] for first, *_ in TERMS}
"""The terms by their first word."""


@cache
def files() -> dict[str, str]:
    """The text of each source file by its path in the package; without the schema, whose text is part of databases."""
    paths = (path for path in sorted(SOURCE.rglob("*")) if path.suffix in (".py", ".sql"))
    return {
        path.relative_to(SOURCE).as_posix(): path.read_text(encoding="utf-8")
        for path in paths
        if path.parent.name != "migrations" and path.name != "schema.sql"
    }


def words(text: str) -> list[tuple[int, str]]:
    """The words of a text and the ends of its sentences, each with its line.

    A name is taken apart: ``hearNews`` and ``_hear_news`` are two words.
    """
    return [
        (number, word.lower())
        for number, line in enumerate(text.split("\n"), 1)
        for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[.:;!?]", line)
    ]


def found(text: str) -> Iterator[tuple[int, str]]:
    """The terms of a text that should not be there, with their lines. A phrase may go over the end of a line."""
    numbered = words(text)
    for place, (number, first) in enumerate(numbered):
        for term in BEGINNING.get(first, ()):
            if tuple(word for _, word in numbered[place : place + len(term)]) == term:
                yield number, " ".join(term)


@pytest.mark.parametrize("module", files())
def test_the_source_uses_plain_words(module: str) -> None:
    hits = [(number, term) for number, term in found(files()[module]) if (module, term) not in ALLOWED]
    assert {f"{number}: {term}": DROPPED.get(term) or PHRASES.get(term) or "the subject" for number, term in hits} == {}


def test_no_class_has_a_dropped_name() -> None:
    defined = {
        name
        for module, text in files().items()
        if module.endswith(".py")
        for name in re.findall(r"^ *class (\w+)", text, re.MULTILINE)
    }
    assert sorted(defined & CLASSES) == []


def test_what_is_allowed_is_used() -> None:
    used = {(module, term) for module, _ in ALLOWED for _, term in found(files()[module])}
    assert set(ALLOWED) <= used


def test_words_are_found_in_names_and_over_the_end_of_a_line() -> None:
    assert {term for _, term in found("def _hear_news(self) -> LaneBell:")} == {"hear", "news", "bell"}
    assert list(found("whoever is near the boardroom, the string or the keyboard")) == [(1, "whoever")]
    assert list(found("# it is given\n    # back, be it late")) == [(1, "given back"), (2, "be it")]
