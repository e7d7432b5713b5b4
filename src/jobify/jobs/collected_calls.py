"""The arguments of several calls in one row: those of a debounced task that collects them.

Each is kept as it was encoded, so a call that is added decodes none of the others. The options of the row say how many
there are; without that, the arguments are those of one call.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from jobify.model.job_options import calls_of, read_options
from jobify.model.records import JobRecord, NewJob

__all__ = ("collected_payloads", "collecting")


def collecting(row: NewJob, before: JobRecord | None = None) -> NewJob:
    """``row``, whose arguments are those of several calls: of the job before, and its own."""
    payloads = [row.payload] if before is None else [*_payloads(before), *collected_payloads(row.payload)]
    own = msgspec.structs.replace(read_options(row.options), calls=len(payloads))
    is_encoded = all(isinstance(payload, bytes) for payload in payloads)
    packed = msgspec.msgpack.encode(payloads) if is_encoded else tuple(payloads)
    return row._replace(payload=cast("bytes", packed), options=own.text())


def _payloads(job: JobRecord) -> list[Any]:
    return collected_payloads(job.payload) if calls_of(job.options) else [job.payload]


def collected_payloads(payload: Any) -> list[Any]:
    """The arguments of each call that a job has collected, encoded as they were."""
    return msgspec.msgpack.decode(payload, type=list[bytes]) if isinstance(payload, bytes) else list(payload)
