"""Where a task's function runs: on the event loop, in a thread, in a child process.

``base`` is the port: a :class:`~jobify.runners.base.Runner` executes a :class:`~jobify.runners.base.FunctionCall`.
"""
