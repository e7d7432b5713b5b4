"""Where tasks are declared: routes, and the routers that group them.

A :class:`Route` is a registered function. It stays callable as before, and knows how to be scheduled: it holds a
``Scheduler`` to submit orders to, which is attached when its router is included in an app. A
router is a tree of routers with routes; the app is the root of the tree.
"""

from jobify.router.configured import ConfiguredTask
from jobify.router.route import NodeRoute, RootRoute, Route
from jobify.router.router import JobRouter, Router

__all__ = ("ConfiguredTask", "JobRouter", "NodeRoute", "RootRoute", "Route", "Router")
