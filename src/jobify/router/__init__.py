"""Where tasks are declared: routes, and the routers that group them.

A :class:`Route` is a registered function. It can still be called as before, and can be scheduled: it holds a
``Scheduler`` to submit requests to, which is attached when its router is included in an app. Routers form a tree; the
app is its root.
"""

from jobify.router.configured import ConfiguredTask
from jobify.router.route import NodeRoute, RootRoute, Route
from jobify.router.router import JobRouter, Router

__all__ = ("ConfiguredTask", "JobRouter", "NodeRoute", "RootRoute", "Route", "Router")
