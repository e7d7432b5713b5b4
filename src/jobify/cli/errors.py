"""How a command fails: one line on standard error, and an exit code."""

from __future__ import annotations

from jobify.exits import ExitCode

__all__ = ("CommandError",)


class CommandError(Exception):
    """The command cannot do what it was asked for; the message is for whoever typed it."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.code = code
