"""The storage in a PostgreSQL database; needs the extra ``jobify[postgres]``."""

from jobify.storage.postgres.storage import PostgresStorage

__all__ = ("PostgresStorage",)
