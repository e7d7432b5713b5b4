"""Layers around a job: around every attempt, and around its scheduling."""

from jobify.middleware.base import BaseMiddleware, BaseOuterMiddleware, CallNext, CallNextOuter
from jobify.middleware.queue import Item, JobifyQueue, QueueMiddleware

__all__ = (
    "BaseMiddleware",
    "BaseOuterMiddleware",
    "CallNext",
    "CallNextOuter",
    "Item",
    "JobifyQueue",
    "QueueMiddleware",
)
