"""Puts this directory on the path: what several tests share is in ``support``. And no test is about how long it took:
hypothesis allows an example 200 ms, which a busy machine may need for anything.

A shell starts what runs in the background with SIGINT ignored, and so would be every process that a test starts."""

import signal

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
