"""Layers around a job: around every attempt, and around its scheduling."""

from jobify.middleware.base import BaseMiddleware, BaseOuterMiddleware, CallNext, CallNextOuter

__all__ = ("BaseMiddleware", "BaseOuterMiddleware", "CallNext", "CallNextOuter")
