"""How a command fails: one line on standard error, and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Final

from jobify.runtime.escaping import escaped
from jobify.worker.exit_codes import ExitCode

__all__ = ("DEBUG", "CommandError", "print_error")

DEBUG: Final = "JOBIFY_DEBUG"
"""The environment variable that asks for tracebacks."""


class CommandError(Exception):
    """The command cannot do what it was asked for; the message is for whoever typed it."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.code = code


def print_error(error: Exception) -> int:
    """Say what is wrong; the exit code."""
    if os.environ.get(DEBUG):
        import traceback

        print(escaped("".join(traceback.format_exception(error)), keep="\n\t"), end="", file=sys.stderr)
    else:
        from jobify.exceptions import BaseJobifyError, shown

        kind = "" if isinstance(error, CommandError | BaseJobifyError) else f"{type(error).__name__}: "
        print(f"jobify: {kind}{escaped(' '.join(shown(error).split()))}", file=sys.stderr)
    return _code_of(error)


def _code_of(error: Exception) -> int:
    from jobify.exceptions import ConfigurationError, JobNotFoundError, StorageReplacedError

    if isinstance(error, CommandError):
        return error.code
    if isinstance(error, StorageReplacedError):
        return ExitCode.REPLACED
    if isinstance(error, ConfigurationError):
        return ExitCode.USAGE
    return ExitCode.NOT_FOUND if isinstance(error, JobNotFoundError) else ExitCode.FAILED
