"""Match exceptions inside exception groups and TaskExitErrors.

Policies, handlers and timeouts match errors by type. ``asyncio.TaskGroup`` raises a group, and a task that raises
SystemExit fails with a :class:`~jobify.exceptions.TaskExitError`; these functions look inside both. They do not use
recursion, because groups may be nested deeper than the stack.
"""

from __future__ import annotations

from collections.abc import Iterator

from jobify.exceptions import RemoteError, TaskExitError

__all__ = ("all_match", "any_matches", "class_address", "parts")


def parts(error: BaseException) -> Iterator[BaseException]:
    """``error`` itself, then everything inside it."""
    left = [error]
    while left:
        part = left.pop()
        yield part
        left += _inside(part)


def any_matches(error: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    """Whether ``error``, or anything inside it, is one of ``kinds``."""
    return any(_is_one_of(part, kinds) for part in parts(error))


def all_match(error: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    """Whether ``error`` is one of ``kinds``, or is a group whose members all match."""
    left = [error]
    while left:
        part = left.pop()
        if _is_one_of(part, kinds):
            continue
        inside = _inside(part)
        if not inside:
            return False
        left += inside
    return True


def class_address(kind: type) -> str:
    """The name that a class has in every process of a program."""
    module = "__main__" if kind.__module__ == "__mp_main__" else kind.__module__
    return f"{module}:{kind.__qualname__}"


def _is_one_of(error: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    """Whether ``error``, or the original in another process, is one of ``kinds``."""
    if isinstance(error, kinds):
        return True
    return isinstance(error, RemoteError) and any(class_address(kind) in error.bases for kind in kinds)


def _inside(error: BaseException) -> tuple[BaseException, ...]:
    if isinstance(error, BaseExceptionGroup):
        return error.exceptions
    if isinstance(error, TaskExitError) and error.__cause__ is not None:
        return (error.__cause__,)
    return ()
