"""What stands for a job in a record of those that have begun."""

from __future__ import annotations

from zlib import crc32

__all__ = ("key_of",)


def key_of(id: str) -> int:
    """32 bits, never 0, which is a free slot."""
    return crc32(id.encode("utf-8", "surrogatepass")) or 1
