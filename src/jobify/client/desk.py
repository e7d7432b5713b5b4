"""What the handles of one app ask for."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from datetime import datetime, tzinfo
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from jobify.client.access import Access
from jobify.client.coding import Coding
from jobify.client.endings import error_of, errors_of, failure_of, reason_of
from jobify.client.listener import Listener, Pace, Waiter
from jobify.client.portrait import log_lines, portrait
from jobify.client.threads import Threads
from jobify.clock import Clock, seconds, to_datetime
from jobify.exceptions import (
    ApplicationStateError,
    ConfigurationError,
    JobNotFoundError,
    PayloadError,
    ResultNotStoredError,
)
from jobify.joboptions import read_options
from jobify.options import check_duration
from jobify.records import AttemptRecord, CancelResult, JobRecord, MessageKind, MessageRecord, Relations
from jobify.result import Polls
from jobify.status import ENDED, JobStatus
from jobify.words import word_of

__all__ = ("Desk",)
