"""What a storage raises. Imported from :mod:`jobify.exceptions`, where the tree is drawn."""

from __future__ import annotations

from jobify.base_error import BaseJobifyError

__all__ = (
    "StorageCorruptError",
    "StorageEndedError",
    "StorageError",
    "StorageLostError",
    "StorageReplacedError",
    "StorageUnavailableError",
    "StorageVersionError",
)


class StorageError(BaseJobifyError):
    """The database said no. The driver's own exception is the ``__cause__``."""


class StorageUnavailableError(StorageError):
    """Locked for too long, full, or out of reach: nothing was changed, and the same call may work later."""


class StorageLostError(StorageUnavailableError):
    """Nothing can be stored until the app is started again."""


class StorageEndedError(StorageLostError):
    """The thread of the storage has ended after several errors in a row, the last of which is the ``__cause__``."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"The storage's thread has ended, so nothing can be stored: {error!r}. Start the app again.")
        self.__cause__ = error


class StorageReplacedError(StorageLostError):
    """The database at ``path`` was deleted, moved, replaced or truncated: ``difference`` says what was found. It is
    not used any more, so that what is there now is not harmed, until the storage is closed and opened again."""

    def __init__(self, path: str, difference: str) -> None:
        self.path, self.difference = path, difference
        super().__init__(
            f"The database {path!r} was deleted or replaced while this process used it: it {difference}. Nothing more "
            "is read from it or written to it. Start the process again when the right file is there."
        )


class StorageCorruptError(StorageError):
    """The database at ``path`` (None: not known here) is damaged, or is none; ``damage`` says what is wrong."""

    def __init__(self, path: str | None, damage: str) -> None:
        self.path, self.damage = path, damage
        name = "" if path is None else f" {path!r}"
        super().__init__(
            f"The database{name} is damaged, or is no database: {damage}. Stop the processes that use it and look at "
            "it with `jobify db check`; then restore a backup, or save what can be read with `sqlite3 FILE .recover`."
        )


class StorageVersionError(StorageError):
    """The database was written by a newer release of Jobify, or by something else. It was not touched."""
