"""What an exception consists of: the members of exception groups, and what a TaskExitError stands for.

A policy, a handler or a timeout asks what went wrong. ``asyncio.TaskGroup`` answers with a group, and a task that
raises SystemExit is failed by a :class:`~jobify.exceptions.TaskExitError`; the questions here look inside both. All of
them work without recursion, because groups may be nested deeper than the stack is.
"""

from __future__ import annotations

from collections.abc import Iterator

from jobify.exceptions import TaskExitError

__all__ = ("all_match", "any_matches", "parts")


def parts(error: BaseException) -> Iterator[BaseException]:
    """``error`` itself, then everything inside it."""
    left = [error]
    while left:
        part = left.pop()
        yield part
        left += _inside(part)


def any_matches(error: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    """Whether ``error``, or anything inside it, is one of ``kinds``."""
    return any(isinstance(part, kinds) for part in parts(error))


def all_match(error: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    """Whether ``error`` is one of ``kinds``, or is a group whose members all match."""
    left = [error]
    while left:
        part = left.pop()
        if isinstance(part, kinds):
            continue
        inside = _inside(part)
        if not inside:
            return False
        left += inside
    return True


def _inside(error: BaseException) -> tuple[BaseException, ...]:
    if isinstance(error, BaseExceptionGroup):
        return error.exceptions
    if isinstance(error, TaskExitError) and error.__cause__ is not None:
        return (error.__cause__,)
    return ()
