"""The fields of the running job, for the records of every logger.

A record of a task's own logger does not name the job, because the same code runs for many jobs at once. The job is
known from the context of the code that logs, on the event loop and in threads; records of child processes arrive with
its fields.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from jobify.jobs.current_job import CURRENT
from jobify.runtime.escaping import escaped

__all__ = ("JobFields",)

_FIELDS: Final = ("job_id", "task", "queue", "attempt")


class JobFields(logging.Filter):
    """A logging filter that adds the fields of the current job to each record.

    The attributes are ``job_id``, ``task``, ``queue`` and ``attempt``. A record that has them already keeps them. One
    outside a job gets ``default``, so that a format may name the fields. Add the filter to a handler, because a filter
    of a logger does not see the records of other loggers. With a QueueHandler, add it to that one, because the job is
    known from the context of the code that logs. No record is dropped.

    ::

        handler = logging.StreamHandler()
        handler.addFilter(JobFields(default="-"))
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s [%(task)s %(job_id)s] %(message)s"))
        logging.basicConfig(level=logging.INFO, handlers=[handler])
    """

    def __init__(self, default: Any = None) -> None:
        super().__init__()
        self._default = default

    def filter(self, record: logging.LogRecord) -> bool:
        own = vars(record)
        if "job_id" not in own and (running := CURRENT.get()) is not None:
            found = (running.id, running.task_name, running.queue_name, running.number)
            for name, value in zip(_FIELDS, found, strict=True):
                own.setdefault(name, escaped(value) if isinstance(value, str) else value)
        for name in _FIELDS:
            own.setdefault(name, self._default)
        return True
