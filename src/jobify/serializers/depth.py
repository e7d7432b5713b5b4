"""How deeply values may be nested: what is accepted can be read, on any stack.

Encoders and decoders recurse, in Python or in C, and how far they come depends on where they are called. So there is
one limit for every serializer of this package, far below what any stack bears, and it is applied where a value is
written. A caller that is itself deep in a recursion gets a thread with a stack of its own.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, Final, TypeVar, cast

from jobify.exceptions import PayloadError

__all__ = ("MAX_DEPTH", "on_any_stack", "require_depth", "too_deep")

MethodT = TypeVar("MethodT", bound=Callable[..., Any])

MAX_DEPTH: Final = 100
"""Containers and objects within one another. The two lists that hold the arguments of a call count, too."""

_SEQUENCES: Final = (list, tuple, set, frozenset, deque)
_MARKS: Final = ("__dataclass_fields__", "__struct_fields__", "__pydantic_fields__")
"""What the classes have whose objects are data."""
_ATOMS: Final = frozenset({str, int, float, bool, type(None), bytes})


def too_deep() -> PayloadError:
    """What to raise for a value that is nested too deeply."""
    return PayloadError(
        f"The value is nested too deeply, or contains itself: more than {MAX_DEPTH} levels. Pass it in parts."
    )


def require_depth(value: Any) -> None:
    """Raise PayloadError for a value of more than :data:`MAX_DEPTH` levels. Level by level, without recursion."""
    level = [] if type(value) in _ATOMS else [value]
    for _ in range(MAX_DEPTH):
        # By identity: what occurs many times on a level is looked at once.
        level = list({id(part): part for each in level for part in _parts(each) if type(part) not in _ATOMS}.values())
        if not level:
            return
    if any(isinstance(each, (*_SEQUENCES, dict)) or _has_parts(each) for each in level):
        raise too_deep()


def _has_parts(value: Any) -> bool:
    return any(True for _ in _parts(value))


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, _SEQUENCES):
        return value
    if isinstance(value, type) or not any(hasattr(type(value), mark) for mark in _MARKS):
        return ()
    names = getattr(type(value), "__slots__", ()) or getattr(type(value), "__struct_fields__", ())
    names = (names,) if isinstance(names, str) else names
    return [*getattr(value, "__dict__", {}).values(), *(getattr(value, name, None) for name in names)]


def on_any_stack(method: MethodT) -> MethodT:
    """Make ``dumpb`` or ``loadb`` independent of how deep its caller is in a recursion."""

    @wraps(method)
    def call(self: Any, data: Any) -> Any:
        try:
            return method(self, data)
        except RecursionError:
            return _in_thread(method, self, data)

    return cast(MethodT, call)


def _in_thread(method: Callable[..., Any], self: Any, data: Any) -> Any:
    answers: list[Any] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            answers.append(method(self, data))
        except RecursionError:
            errors.append(too_deep())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="jobify-stack")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return answers[0]
