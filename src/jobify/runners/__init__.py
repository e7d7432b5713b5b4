"""Where a task's function runs: on the event loop, in a thread, in a child process.

``base`` is the port: a :class:`~jobify.runners.base.Runner` carries a :class:`~jobify.runners.base.Call`. ``loop``,
``thread`` and ``process`` are its three forms. Behind the last one: ``pool`` and ``childprocess`` (the children as the
parent sees them), ``child`` and ``lifeline`` (what runs inside one), ``line`` and ``wire`` (what goes between both) and
``address`` (how a function is found again).
"""
