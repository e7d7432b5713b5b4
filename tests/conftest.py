"""Puts this directory on the path: what several tests share is in ``support``. And no test is about how long it took:
hypothesis allows an example 200 ms, which a busy machine may need for anything."""

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
