"""Submitting and querying without a running app: behind ``delay``, ``enqueue`` and ``JobResult``.

No event loop is needed, and no engine: whether one runs in this process makes no difference.
"""
