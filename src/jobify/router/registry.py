"""The resolved tasks of an app: each with the options, middleware and handlers that apply to it.

Built once when the app starts, because its configuration is frozen from then on. Running a job needs no further
resolution.
"""

from __future__ import annotations

import inspect
from collections import ChainMap, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, cast

from jobify.crontab import CronFactory
from jobify.exceptions import ConfigurationError, did_you_mean
from jobify.jobs.call_rules import UNIQUE_KEY, CallRules
from jobify.jobs.context import JobContext
from jobify.middleware.base import BaseMiddleware, BaseOuterMiddleware, CallNext, ExceptionHandlerMiddleware, chain
from jobify.middleware.timeout import TimeoutMiddleware
from jobify.model.batch import BatchFunction, rule_of
from jobify.model.cron import Cron, as_cron, parse_cron
from jobify.model.durations import as_seconds
from jobify.model.element_signature import Element
from jobify.model.hooks import Hooks
from jobify.model.job_options import JobOptions
from jobify.model.limit_gates import LimitDefinition, LimitKind
from jobify.model.limit_keys import Key, KeyReader, key_text
from jobify.model.limits import check_definitions, definitions_of
from jobify.model.retry import SmartRetry
from jobify.model.signature import FuncSpec, is_async_callable
from jobify.model.state import State
from jobify.model.task_options import DEFAULT_QUEUE, RouteOptions, RunMode, resolve_run_mode
from jobify.router import JobRouter, Route, Router
from jobify.router.aliases import aliases_below
from jobify.router.injection import check_injectable, check_injectable_in_batch, inject
from jobify.router.route import lasting_name
from jobify.runners.function_address import Address, process_address
from jobify.runtime.code_fingerprint import code_fingerprint
from jobify.serializers.codec import ParameterTypes, parameter_types

__all__ = (
    "DECLARED_SUFFIX",
    "Endpoint",
    "Registry",
    "build_registry",
    "check_route",
    "endpoints_of",
    "share_state",
)

DECLARED_SUFFIX = "__jobify_cron_definition"
"""The job id of a declared cron is its task's name followed by this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A resolved task."""

    name: str
    app: Router
    """The root of its tree."""
    route: Route[..., Any]
    func: Any
    spec: FuncSpec[Any]
    options: RouteOptions
    run_mode: RunMode
    slot_mode: RunMode
    """The run mode whose slots its attempts hold. With a QueueMiddleware it is the event loop's, because a thread that
    only waits in the queue would be wasted, and only jobs in the queue can be sorted by it."""
    is_durable: bool
    retry: SmartRetry | None
    cron: Cron | None
    state: State
    types: ParameterTypes
    address: Address | None
    """Where a child process finds the function; None if the task does not run in one."""
    queue: str
    priority: int
    result_ttl: float | None
    """Seconds that a success is kept. None means the retention of the app."""
    layers: tuple[BaseMiddleware, ...]
    """The middleware around every attempt, the outermost first, without the timeout."""
    call: CallNext | None
    """The chain around the function. None means that there is no layer and nothing to inject."""
    outer: tuple[BaseOuterMiddleware, ...]
    hooks: tuple[Hooks, ...] = ()
    """The hooks of its routers, the nearest first, without those of the app."""
    aliases: tuple[str, ...] = ()
    """Earlier names under which jobs of the task may be stored."""
    renamed_types: Mapping[str, type] = field(default_factory=dict)
    """Classes by their earlier names, which stored options may contain."""
    limits: tuple[LimitDefinition, ...] = ()
    """What is stored of its limits."""
    rules: CallRules
    """What becomes of calls that meet an earlier job."""
    takes_places: bool = field(init=False)
    """Whether its jobs stand in a line of a limit from their insert on: it may refuse them, or has turns."""
    needs_steps: bool = field(init=False)
    """Whether more than an insert is needed to store a job: it takes places, or may meet an earlier one."""
    limit_keys: KeyReader | None = None
    """Reads the keys of its limits and of its batches; None: they have none."""
    batch: BatchFunction | None = None
    """With ``batch=``: one call of the function runs many jobs."""
    collected: Element | None = None
    """With a ``debounce=`` that collects: what a call of the task becomes in the list that the function takes."""
    run_spec: FuncSpec[Any]
    """What an attempt gets: the arguments of a call, or with ``collected`` a list of them."""
    is_bare: bool = field(init=False)
    """Whether an attempt only calls the function, on the event loop."""
    timeout: float | None = field(init=False)
    """Seconds that an attempt may take."""
    is_direct: bool = field(init=False)
    """Whether an attempt only calls the function, in a thread or a child process; in a thread also with a timeout."""

    def __post_init__(self) -> None:
        is_alone = self.batch is None
        object.__setattr__(self, "is_bare", is_alone and self.call is None and self.run_mode is RunMode.MAIN)
        timeout = self.options.get("timeout")
        object.__setattr__(self, "timeout", None if timeout is None else as_seconds(timeout))
        is_plain = is_alone and not (self.layers or self.run_spec.inject_params)
        is_limited_child = self.run_mode is RunMode.PROCESS and self.timeout is not None  # which must know its deadline
        is_direct = is_plain and self.run_mode is self.slot_mode is not RunMode.MAIN and not is_limited_child
        object.__setattr__(self, "is_direct", is_direct)
        object.__setattr__(
            self,
            "takes_places",
            any(limit.on_excess != "wait" or limit.kind == LimitKind.FAIR for limit in self.limits),
        )
        object.__setattr__(self, "needs_steps", self.takes_places or self.rules.has_rules)

    def fingerprint(self) -> str | None:
        """A digest of the code of the task, its timeout, its retries and its run mode. None if there is none."""
        retry = None if self.retry is None else [_name_or_text(value) for value in self.retry]
        definition = repr((self.options.get("timeout"), retry, self.run_mode.value))
        try:
            return code_fingerprint(self.func, definition)
        except Exception:  # raised by an object of the user's
            return None

    @property
    def names(self) -> tuple[str, ...]:
        """The names under which jobs of the task may be stored."""
        return (self.name, *self.aliases)

    @property
    def declared_id(self) -> str:
        """The id of its declared cron, if it has one."""
        return self.name + DECLARED_SUFFIX

    @property
    def former_declared_ids(self) -> tuple[str, ...]:
        """The ids that its declared cron had under earlier names of the task."""
        return tuple(alias + DECLARED_SUFFIX for alias in self.aliases)

    def for_job(self, own: JobOptions) -> Endpoint:
        """The task with the options of one job applied; PayloadError if they cannot be read."""
        changed: dict[str, Any] = {}
        if own.metadata is not None:
            changed["metadata"] = {**(self.options.get("metadata") or {}), **own.metadata}
        if own.retry is not None:
            changed["retry"] = own.policy(self.renamed_types)
        if own.timeout is not None:
            changed["timeout"] = own.timeout
        if not changed and own.result_ttl is None:
            return self
        options = cast("RouteOptions", {**self.options, **changed})
        return replace(
            self,
            options=options,
            retry=changed.get("retry", self.retry),
            result_ttl=self.result_ttl if own.result_ttl is None else own.result_ttl,
            call=_chain(self.layers, options, self.run_spec),
        )


Registry: TypeAlias = dict[str, Endpoint]
"""Endpoints by every name under which jobs of the task may be stored: its name and its aliases."""


def build_registry(root: Router, renamed_types: Mapping[str, type] | None = None) -> Registry:
    """Resolve every task below ``root``."""
    aliases = defaultdict(list)
    for alias, name in aliases_below(root).items():
        aliases[name].append(alias)
    endpoints = [_resolve(router, route, tuple(aliases[route.name])) for router, route in root.walk()]
    check_definitions((endpoint.name, endpoint.limits) for endpoint in endpoints)
    if renamed_types:
        endpoints = [replace(endpoint, renamed_types=renamed_types) for endpoint in endpoints]
    return {name: endpoint for endpoint in endpoints for name in endpoint.names}


def endpoints_of(registry: Registry) -> list[Endpoint]:
    """The endpoints of a registry, each once."""
    return [endpoint for name, endpoint in registry.items() if name == endpoint.name]


def share_state(router: Router) -> None:
    """Make the states of routers visible in those of their sub-routers, live.

    A key that is missing in a state is looked up in the parent's; a value is set in the state itself.
    """
    for below in router.sub_routers:
        below.keep_declared_state()
        if below.state is not router.state:
            own, *_ = _maps(below.state)
            below.state.data = ChainMap(own, *_maps(router.state))  # type: ignore[assignment]  # UserDict works with any mutable mapping
        share_state(below)


def _maps(state: State) -> list[Any]:
    """The state's own dict, and those of its parents if it has been shared before."""
    return state.data.maps if isinstance(state.data, ChainMap) else [state.data]


def check_route(route: Route[..., Any], app: object, *, is_durable: bool, cron_factory: CronFactory) -> None:
    """ConfigurationError if ``app`` cannot run the task. ``is_durable`` says whether the app's storage is."""
    options, name = route.options, route.name
    if inspect.isgeneratorfunction(route.func) or inspect.isasyncgenfunction(route.func):
        raise ConfigurationError(
            f"Task {name!r} is a generator: calling it runs none of its body. Return a list, or loop inside the task."
        )
    mode = resolve_run_mode(options, is_async=is_async_callable(route.func), task=name)
    if is_durable and options.get("durable", True) and "name" not in options and lasting_name(route.func) is None:
        raise ConfigurationError(
            f"{route.func!r} has no name that is the same after a restart. Give it one: task(name='...'), "
            "or say durable=False."
        )
    if mode is RunMode.PROCESS:
        process_address(route.func)
        if route.function_spec.inject_params:
            raise ConfigurationError(
                f"Task {name!r} runs in a child process, where nothing of the app can be injected: "
                f"{', '.join(route.function_spec.inject_params)}. Remove INJECT, or use a thread."
            )
    _check_keys(route)
    check_injectable(route.function_spec, app=app)
    if options.get("batch") is not None:
        check_injectable_in_batch(route.function_spec)
    cron = options.get("cron")
    if cron is not None:
        _check_cron(as_cron(cron), route, cron_factory)


def _check_keys(route: Route[..., Any]) -> None:
    parameters, options = list(route.func_spec.signature.parameters), route.options
    unique, debounce = options.get("unique"), options.get("debounce")
    keys = _limit_keys(route)
    keys += [("the Unique", key) for key in (None if unique is None else unique.keys) or ()]
    keys += [("the Debounce", key) for key in (None if debounce is None else debounce.keys) or ()]
    for owner, key in keys:
        if isinstance(key, str) and (first := key.partition(".")[0]) not in parameters:
            raise ConfigurationError(
                f"The key {key!r} of {owner} of task {route.name!r} begins with no parameter of the task. "
                f"{did_you_mean(first, parameters)}"
            )


def _check_cron(cron: Cron, route: Route[..., Any], cron_factory: CronFactory) -> None:
    parse_cron(cron, cron_factory)
    try:
        route.func_spec.check(*cron.args, **cron.kwargs)
    except TypeError as error:
        raise ConfigurationError(
            f"The cron of task {route.name!r} cannot call it: {error}. Its arguments are those of "
            "Cron(args=..., kwargs=...)."
        ) from error


def _resolve(router: Router, route: Route[..., Any], aliases: tuple[str, ...]) -> Endpoint:
    options, spec, cron = route.options, route.func_spec, route.options.get("cron")
    path = list(router.chain_head)[::-1]
    layers = _layers(path, route)
    run_mode = resolve_run_mode(options, is_async=is_async_callable(route.func), task=route.name)
    collected = route.element if options.get("batch") is None else None
    run_spec = spec if collected is None else route.function_spec
    rules = CallRules((route.name, *aliases), spec.signature, options.get("unique"), options.get("debounce"))
    return Endpoint(
        name=route.name,
        app=path[0],
        aliases=aliases,
        route=route,
        func=route.func,
        spec=spec,
        options=options,
        run_mode=run_mode,
        slot_mode=RunMode.MAIN if _is_queued(path) else run_mode,
        is_durable=options.get("durable", True),
        retry=options.get("retry"),  # type: ignore[arg-type]  # check_options turned a number into a SmartRetry
        cron=None if cron is None else as_cron(cron),
        state=router.state,
        types=parameter_types(spec.signature, spec.type_params),
        address=process_address(route.func) if run_mode is RunMode.PROCESS else None,
        queue=options.get("queue", DEFAULT_QUEUE),
        priority=options.get("priority", 0),
        result_ttl=None,
        layers=layers,
        call=_chain(layers, options, run_spec),
        outer=tuple(layer for node in path for layer in node.outer_middleware),
        hooks=tuple(node.hooks for node in reversed(path) if isinstance(node, JobRouter)),
        limits=_limits_of(route),
        limit_keys=_key_reader(route, rules),
        rules=rules,
        batch=_batch_function(route),
        collected=collected,
        run_spec=run_spec,
    )


def _limits_of(route: Route[..., Any]) -> tuple[LimitDefinition, ...]:
    limits = definitions_of(route.options.get("limits", ()), route.name)
    unique = route.options.get("unique")
    if unique is None or unique.on_conflict != "cancel_running":
        return limits
    # What is cancelled may take its time, and its thread longer; what follows it waits for that.
    one_at_a_time = LimitDefinition(f"{route.name}:unique", LimitKind.CONCURRENCY.value, 1, key=UNIQUE_KEY)
    return (*limits, one_at_a_time)


def _limit_keys(route: Route[..., Any]) -> list[tuple[str, Key]]:
    """The keys that are stored with a job, and what has them."""
    batch = route.options.get("batch")
    found = [("a limit", limit.key) for limit in route.options.get("limits", ())]
    found += [] if batch is None else [("the batch", batch.key)]
    return [(owner, key) for owner, key in found if key is not None]


def _batch_function(route: Route[..., Any]) -> BatchFunction | None:
    batch = route.options.get("batch")
    if batch is None or route.element is None:
        return None
    return BatchFunction(rule_of(batch), route.element, route.function_spec)


def _key_reader(route: Route[..., Any], rules: CallRules) -> KeyReader | None:
    keys = {key_text(key): key for _, key in _limit_keys(route)}
    if rules.unique is not None and rules.unique.on_conflict == "cancel_running":
        keys[UNIQUE_KEY] = rules.unique_key_of
    return KeyReader(route.name, route.func_spec.signature, keys) if keys else None


def _name_or_text(value: object) -> str:
    """A part of a retry policy: a number, or the names of exceptions."""
    return repr([kind.__qualname__ for kind in value]) if isinstance(value, tuple) else repr(value)


def _is_queued(path: list[Router]) -> bool:
    return any(getattr(layer, "is_queue", False) for node in path for layer in node.middleware)


def _layers(path: list[Router], route: Route[..., Any]) -> tuple[BaseMiddleware, ...]:
    """From outside in: the middleware of the app and of each router, exception handlers."""
    layers: list[BaseMiddleware] = [layer for node in path for layer in node.middleware]
    # Nearest level first, so that a task's handler for Exception beats an app's handler for ValueError.
    levels = [route.options.get("exception_handlers") or {}, *(node.exception_handlers for node in reversed(path))]
    if any(levels):
        layers.append(ExceptionHandlerMiddleware(levels))
    return tuple(layers)


def _chain(layers: tuple[BaseMiddleware, ...], options: RouteOptions, spec: FuncSpec[Any]) -> CallNext | None:
    """``layers``, the timeout, the function."""
    timeout = options.get("timeout")
    if timeout is not None:
        layers = (*layers, TimeoutMiddleware(timeout))
    return chain(layers, _run) if layers or spec.inject_params else None


async def _run(context: JobContext) -> Any:
    # Innermost, so that INJECT parameters get the context as the middleware left it.
    if context.runnable.func_spec.inject_params:
        inject(context)
    return await context.runnable()
