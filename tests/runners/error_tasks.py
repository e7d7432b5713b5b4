"""Exceptions that are hard to handle, and tasks that raise them; importable in a child process."""

from __future__ import annotations

import sys
import threading
import time
import urllib.error
from email.message import Message
from io import BytesIO
from typing import Any


class StrRaises(ConnectionError):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class StrExits(ConnectionError):
    def __str__(self) -> str:
        sys.exit(5)


class StrHangs(ConnectionError):
    def __str__(self) -> str:
        time.sleep(1000)
        return "late"


class ReprRaises:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class AnswersAll(ConnectionError):
    """As that of urllib: whatever is not there is asked of something that may not be there either."""

    def __getattr__(self, name: str) -> Any:
        return self.__dict__["inner"][name]


class ReduceRaises(ConnectionError):
    def __reduce__(self) -> Any:
        raise RuntimeError("I stay here")


class ReduceExits(ConnectionError):
    def __reduce__(self) -> Any:
        sys.exit(4)


class ReduceLies(ConnectionError):
    def __reduce__(self) -> Any:
        return ValueError, ("something else",)


class RebuildExits(ConnectionError):
    """Can be packed, and ends the process that unpacks it."""

    def __reduce__(self) -> Any:
        return sys.exit, (3,)


class NeedsKeywords(ConnectionError):
    def __init__(self, *, host: str) -> None:
        super().__init__(f"no answer from {host}")
        self.host = host


class GrowsText(ConnectionError):
    """Its text would change with every ``__init__``."""

    def __init__(self, code: str) -> None:
        super().__init__(f"error {code}")


class HoldsLock(ConnectionError):
    """As those of grpc: the text is made from what cannot travel."""

    def __init__(self) -> None:
        super().__init__()
        self.state = threading.Condition()

    def __str__(self) -> str:
        return f"status {type(self.state).__name__}"


class Slotted(ConnectionError):
    __slots__ = ("code",)

    def __init__(self, code: int) -> None:
        super().__init__("slotted")
        self.code = code


class Meta(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no name")


class Nameless(ConnectionError, metaclass=Meta):
    pass


def local() -> ConnectionError:
    class Hidden(ConnectionError):
        pass

    return Hidden("inside")


def http_error() -> ConnectionError | urllib.error.HTTPError:
    return urllib.error.HTTPError("http://here/", 404, "Not Found", Message(), BytesIO(b"page"))


def chained() -> ConnectionError:
    error = ConnectionError("outer")
    error.__cause__ = StrRaises("cause")
    error.__cause__.__context__ = AnswersAll("context")
    return error


def noted() -> ConnectionError:
    error = NeedsKeywords(host="a")
    error.add_note("try again later")
    return error


def group() -> BaseException:
    return ExceptionGroup("several", [NeedsKeywords(host="a"), HoldsLock(), ExceptionGroup("inner", [local()])])


MAKERS: dict[str, Any] = {
    "str_raises": lambda: StrRaises("x"),
    "str_exits": lambda: StrExits("x"),
    "str_hangs": lambda: StrHangs("x"),
    "repr_raises": lambda: ConnectionError(ReprRaises(), 1),
    "answers_all": lambda: AnswersAll("x"),
    "reduce_raises": lambda: ReduceRaises("kept text"),
    "reduce_exits": lambda: ReduceExits("kept text"),
    "reduce_lies": lambda: ReduceLies("kept text"),
    "rebuild_exits": lambda: RebuildExits("kept text"),
    "needs_keywords": lambda: NeedsKeywords(host="a"),
    "grows_text": lambda: GrowsText("5"),
    "holds_lock": HoldsLock,
    "slotted": lambda: Slotted(7),
    "nameless": lambda: Nameless("kept text"),
    "local": local,
    "http_error": http_error,
    "chained": chained,
    "noted": noted,
    "group": group,
    "lock_beside": lambda: ConnectionError("bad", threading.Lock()),
}


def fail(name: str) -> None:
    raise MAKERS[name]()


async def fail_async(name: str) -> None:
    raise MAKERS[name]()
