"""Tracebacks with the frames of the user's code only, and the chain of errors.

The full traceback of a task's error also has frames of this package, of asyncio, of threads and pools, and errors of
their internals: a timeout is a CancelledError that became a TimeoutError that became a JobTimeoutError. They do not
help to find the mistake, and are left out. The task's own ``raise ... from ...`` stays.

The formatter of the standard library reads the text, the notes and more of an exception, which runs code of its class.
That is guarded (:mod:`jobify.runtime.errortools`); if it fails, the traceback is made from the interpreter's own data.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from traceback import StackSummary, TracebackException, extract_tb
from types import TracebackType
from typing import Final, NamedTuple

from jobify.runtime.errortools import call_guarded, cause_of, chain, context_of, is_plain, text_of, type_name

__all__ = ("RemoteTraceback", "own_frames", "own_traceback")

_CAUSE: Final = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT: Final = "\nDuring handling of the above exception, another exception occurred:\n\n"

_LIBRARY: Final = Path(os.__file__).parent
_PLUMBING: Final = (
    os.path.join(Path(__file__).parents[1], ""),
    *(os.path.join(_LIBRARY, package, "") for package in ("asyncio", "concurrent", "multiprocessing", "importlib")),
    str(_LIBRARY / "threading.py"),
    "<frozen importlib",
)


class RemoteTraceback(Exception):
    """The ``__cause__`` of an exception from a child process; ``text`` is the traceback of the task's frames."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(text)

    def __str__(self) -> str:
        return f"in the child process\n\n{self.text}"

    @classmethod
    def of(cls, error: BaseException | None) -> RemoteTraceback | None:
        """The RemoteTraceback in the causes of ``error``. None if it does not come from a child process."""
        while error is not None and not isinstance(error, cls):
            error = cause_of(error)
        return error


def own_traceback(error: BaseException) -> str:
    """The text that Python would print for ``error``, with the frames of the user's code only. Never fails.

    An error without such frames shows those of its cause: a timeout points to where the task was.
    """
    if all(map(is_plain, chain(error))):
        text = _formatted_or_none(error)
    else:
        text = call_guarded(lambda: _formatted_or_none(error), None)
    return _basic_traceback(error) if text is None else text


def _formatted_or_none(error: BaseException) -> str | None:
    try:
        return _formatted(error)
    except Exception:
        return None


def _formatted(error: BaseException) -> str:
    parts: list[str] = []
    step: _Step | None = _Step.of(error)
    while step is not None:
        remote = cause_of(step.error)
        if isinstance(remote, RemoteTraceback):
            parts.append(remote.text)
            break
        before = step.before()
        while before is not None and not before.is_remote and (before.is_plumbing or step.is_plumbing):
            if step.is_plumbing:
                step.shown.stack = before.shown.stack
            before = before.before()
        parts.append(step.text())
        if before is not None:
            parts.append(before.link)
        step = before
    return "".join(reversed(parts))


class _Step(NamedTuple):
    """One exception of a chain, and its link to the next one."""

    shown: TracebackException
    error: BaseException
    link: str = ""

    @classmethod
    def of(cls, error: BaseException) -> _Step:
        shown = TracebackException.from_exception(error, lookup_lines=False)
        for each in _all_of(shown):
            each.stack = StackSummary.from_list([frame for frame in each.stack if not _is_plumbing(frame.filename)])
        return cls(shown, error)

    @property
    def is_plumbing(self) -> bool:
        """Whether it was raised, but not in the user's code."""
        return not self.shown.stack and self.error.__traceback__ is not None

    @property
    def is_remote(self) -> bool:
        """Whether it comes from a child process."""
        return isinstance(cause_of(self.error), RemoteTraceback)

    def before(self) -> _Step | None:
        """The cause, or the context, of the exception."""
        if self.error.__cause__ is not None and self.shown.__cause__ is not None:
            return _Step(self.shown.__cause__, self.error.__cause__, _CAUSE)
        if self.error.__context__ is not None and self.shown.__context__ is not None:
            return (
                None
                if self.error.__suppress_context__
                else _Step(self.shown.__context__, self.error.__context__, _CONTEXT)
            )
        return None

    def text(self) -> str:
        """The exception alone; a group with its parts and their causes."""
        self.shown.__cause__ = self.shown.__context__ = None
        return "".join(self.shown.format())


def _basic_traceback(error: BaseException) -> str:
    """The frames, names and texts of ``error`` and its causes, as far as they are available."""
    parts: list[str] = []
    link, seen = "", set[int]()
    step: BaseException | None = error
    while step is not None and id(step) not in seen:
        seen.add(id(step))
        cause = cause_of(step)
        if isinstance(cause, RemoteTraceback):
            parts.append(cause.text + link)
            break
        parts.append(_basic_text(step) + link)
        link = _CONTEXT if cause is None else _CAUSE
        step = (None if _suppresses_context(step) else context_of(step)) if cause is None else cause
    return "".join(reversed(parts))


def _basic_text(error: BaseException) -> str:
    frames: list[str] = []
    with suppress(Exception):  # source lines may come from a loader of the user's
        stack = [frame for frame in extract_tb(_traceback(error)) if not _is_plumbing(frame.filename)]
        frames = ["Traceback (most recent call last):\n", *StackSummary.from_list(stack).format()] if stack else []
    text = text_of(error)
    return "".join([*frames, type_name(error), f": {text}\n" if text else "\n"])


_traceback: Final[Callable[[BaseException], TracebackType | None]] = BaseException.__dict__["__traceback__"].__get__
_suppresses_context: Final[Callable[[BaseException], bool]] = BaseException.__dict__["__suppress_context__"].__get__


def _all_of(shown: TracebackException) -> Iterator[TracebackException]:
    """The exception, its causes, and its parts."""
    left = [shown]
    while left:
        each = left.pop()
        yield each
        left += [other for other in (each.__cause__, each.__context__, *(each.exceptions or ())) if other is not None]


def _is_plumbing(filename: str) -> bool:
    return filename.startswith(_PLUMBING)


def own_frames(error: BaseException) -> TracebackType | None:
    """The traceback of ``error`` without the frames that :func:`own_traceback` leaves out."""
    frames: list[TracebackType] = []
    step = _traceback(error)
    while step is not None:
        if not _is_plumbing(step.tb_frame.f_code.co_filename):
            frames.append(step)
        step = step.tb_next
    found: TracebackType | None = None
    for frame in reversed(frames):
        found = TracebackType(found, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return found
