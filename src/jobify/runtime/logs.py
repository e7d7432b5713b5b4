"""The loggers of the library: whatever handler a record reaches, text from outside cannot forge a line in it.

Task names, ids, queue names, worker names and errors come from rows and from jobs. A line end in one of them would make
one record look like two, and a control sequence would act upon the terminal that shows the log. The handlers belong to
the app, so the records are made safe before any handler sees them: each logger of the library has a filter that escapes
the arguments of its records, their extra attributes, and the text of their exceptions.

Every module takes its logger from here, and the templates of its records are constants; a test checks each call.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from jobify.runtime.errortools import shown
from jobify.runtime.escaping import escaped

__all__ = ("Lines", "get_logger", "write")

_NUMBERS: Final = (int, float, type(None))
_OWN_ATTRIBUTES: Final = frozenset(vars(logging.makeLogRecord({})))
_tracebacks: Final = logging.Formatter()


class Lines(str):
    """An argument of a record that may have several lines. They are indented, because a line of log begins at the
    left."""

    __slots__ = ()


class _Safe:
    """An argument that is not printable as it is, or that has code of its own to make its text."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return _in_lines(self._value) if isinstance(self._value, Lines) else escaped(shown(self._value))

    def __repr__(self) -> str:
        try:
            return escaped(repr(self._value))
        except Exception:  # of the user's class
            return f"<{escaped(type(self._value).__qualname__)}>"


class _Escaping(logging.Filter):
    """Changes records; lets each of them through."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, Mapping):
            record.args = {name: _safe(value) for name, value in record.args.items()}
        elif record.args:
            record.args = tuple(map(_safe, record.args))
        if record.exc_info and not record.exc_text:
            record.exc_text = _text_of(record.exc_info)
        for name in vars(record).keys() - _OWN_ATTRIBUTES:
            value = vars(record)[name]
            if isinstance(value, str) and not value.isprintable():
                setattr(record, name, escaped(value))
        return True


_escaping: Final = _Escaping()


def get_logger(name: str) -> logging.Logger:
    """The logger of this name, whose records are safe to show."""
    logger = logging.getLogger(name)
    logger.addFilter(_escaping)  # once: a logger does not take the same filter twice
    return logger


def write(logger: logging.Logger, level: int, message: str, *args: object, **extra: object) -> None:
    """Log ``message``, with ``extra`` attributes of the record. ``exc_info`` and ``exc_text`` among them are the
    exception and the text that is shown of it, which handlers that look for exceptions find there.

    A handler that raises, which it must not, is reported as the standard library reports it: on the standard error."""
    if not logger.isEnabledFor(level):
        return
    text = extra.pop("exc_text", None)
    error: Any = extra.pop("exc_info", None)
    record = logger.makeRecord(logger.name, level, __file__, 0, message, args, error, extra=extra)
    if isinstance(text, str):
        record.exc_text = _in_lines(text.rstrip("\n"))
    try:
        logger.handle(record)
    except Exception:
        logging.Handler().handleError(record)


def _safe(value: object) -> Any:
    if isinstance(value, _NUMBERS) or (type(value) is str and value.isprintable()):
        return value
    return _Safe(value)


def _text_of(exc_info: Any) -> str:
    try:
        return _in_lines(_tracebacks.formatException(exc_info))
    except Exception:  # of the user's exception
        return "<the traceback cannot be shown>"


def _in_lines(value: str) -> str:
    return escaped(value, keep="\n\t").replace("\n", "\n    ")
