"""Enqueuing and querying without a running app: behind ``delay``, ``enqueue`` and ``JobResult``.

It needs no event loop and no engine; whether one runs in this process makes no difference.
"""
