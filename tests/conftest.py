"""Puts this directory on the path: what several tests share is in ``support``. And no test is about how long it took:
hypothesis allows an example 200 ms, which a busy machine may need for anything.

A shell starts what runs in the background with SIGINT ignored, and so would be every process that a test starts."""

from __future__ import annotations

import inspect
import signal
from collections.abc import Generator

import pytest
from hypothesis import settings

from support import run

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Run each ``async def`` test in an event loop of its own, which ends before the fixtures do."""
    test = pyfuncitem.obj
    if inspect.iscoroutinefunction(test):
        pyfuncitem.obj = lambda **arguments: run(test(**arguments))
    return (yield)
