"""The tasks of an app, resolved: for each route, everything that holds for it from the root of the tree down.

Built once, when the app starts (its configuration is frozen from then on), so that running a job looks nothing up.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jobify.context import JobContext
from jobify.cron import Cron, as_cron
from jobify.middleware.base import BaseMiddleware, BaseOuterMiddleware, CallNext, chain
from jobify.middleware.exceptions import ExceptionHandlerMiddleware
from jobify.middleware.timeout import TimeoutMiddleware
from jobify.options import RouteOptions, RunMode, resolve_run_mode
from jobify.retry import SmartRetry
from jobify.router import Route, Router
from jobify.runners.address import Address, process_address
from jobify.serializers.codec import ParameterTypes, parameter_types
from jobify.signature import FuncSpec, is_async_callable
from jobify.state import State

__all__ = ("DECLARED_SUFFIX", "Endpoint", "Registry", "build_registry")

DECLARED_SUFFIX = "__jobify_cron_definition"
"""The job id of a declared cron is its task's name followed by this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One task, ready to run."""

    name: str
    route: Route[..., Any]
    func: Any
    spec: FuncSpec[Any]
    options: RouteOptions
    run_mode: RunMode
    is_durable: bool
    retry: SmartRetry | None
    cron: Cron | None
    state: State
    types: ParameterTypes
    address: Address | None
    """Where a child process finds the function; None for tasks that do not run in one."""
    call: CallNext | None
    """The chain around the function; None when there is nothing around it and nothing to inject."""
    outer: tuple[BaseOuterMiddleware, ...]


class Registry(Mapping[str, Endpoint]):
    """Endpoints by task name."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints = dict(endpoints)

    def __getitem__(self, name: str) -> Endpoint:
        return self._endpoints[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._endpoints)

    def __len__(self) -> int:
        return len(self._endpoints)


def build_registry(root: Router) -> Registry:
    """Resolve every task below ``root``."""
    return Registry({route.name: _resolve(router, route) for router, route in root.walk()})


def share_state(router: Router) -> None:
    """Let the routers below see the state of those above, live: what is missing in a state is looked up in its
    parent's."""
    for below in router.sub_routers:
        own = below.state.data
        own = own.maps[0] if isinstance(own, ChainMap) else own
        above = router.state.data
        below.state.data = ChainMap(own, *(above.maps if isinstance(above, ChainMap) else (above,)))  # type: ignore[assignment]  # UserDict works with any mutable mapping
        share_state(below)


def _resolve(router: Router, route: Route[..., Any]) -> Endpoint:
    options, spec, cron = route.options, route.func_spec, route.options.get("cron")
    path = list(router.chain_tail)[::-1]
    run_mode = resolve_run_mode(options, is_async=is_async_callable(route.func), task=route.name)
    return Endpoint(
        name=route.name,
        route=route,
        func=route.func,
        spec=spec,
        options=options,
        run_mode=run_mode,
        is_durable=options.get("durable", True),
        retry=options.get("retry"),  # type: ignore[arg-type]  # check_options turned a number into a SmartRetry
        cron=None if cron is None else as_cron(cron),
        state=router.state,
        types=parameter_types(spec.signature, spec.type_params),
        address=process_address(route.func) if run_mode is RunMode.PROCESS else None,
        call=_chain(path, route),
        outer=tuple(layer for node in path for layer in node.outer_middleware),
    )


def _chain(path: list[Router], route: Route[..., Any]) -> CallNext | None:
    """From outside in: the middleware of the app and of each router, exception handlers, timeout, the function."""
    layers: list[BaseMiddleware] = [layer for node in path for layer in node.middleware]
    # Nearest level first, so that a task's handler for Exception beats an app's handler for ValueError.
    levels = [route.options.get("exception_handlers") or {}, *(node.exception_handlers for node in reversed(path))]
    if any(levels):
        layers.append(ExceptionHandlerMiddleware(levels))
    timeout = route.options.get("timeout")
    if timeout is not None:
        layers.append(TimeoutMiddleware(timeout))
    if not layers and not route.func_spec.inject_params:
        return None
    return chain(layers, _run)


async def _run(context: JobContext) -> Any:
    return await context.runnable()
