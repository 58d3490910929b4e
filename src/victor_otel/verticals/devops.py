"""DevOps: deployments, the containers that Victor runs, and the CI pipelines it is told of.

Every deployment that ended counts, a cancelled one in no ratio: one that a conversation was
told of in a final word, one by a handler for Docker, Kubernetes or ECS, and a `terraform
apply` that ran. Nested in one call chain they are one; carried out and told to a
conversation as well, one in each source. Victor's local and remote handlers do nothing.

A container counts from its start until Victor stops it or cleans up, also when its handle
is gone or the engine removed it: Victor would not know. A Kubernetes service is one,
whatever its replicas; tasks of ECS, plain processes and cloud services are none.

A pipeline run counts once, by platform, pipeline, run and start, also where Victor fails to
store it.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

from victor_otel import labels
from victor_otel.classes import (
    DOCKER_DEPLOYMENT,
    ECS_DEPLOYMENT,
    KUBERNETES_DEPLOYMENT,
    KUBERNETES_SERVICES,
    LOCAL_DEPLOYMENT,
    REMOTE_DEPLOYMENT,
    is_a,
)
from victor_otel.spec import Area, Call, Hook, Kind, Metric, Reading, Record, Scope, mapping

DEPLOYMENTS = Metric(
    name="victor.devops.deployments",
    kind=Kind.COUNTER,
    meaning="Deployments that ended, however; those that do nothing are none",
    labels=(labels.DEPLOYMENT_SOURCE,),
    guide=True,
)
DEPLOYMENT_SUCCESS_RATE = Metric(
    name="victor.devops.deployment_success_rate",
    kind=Kind.RATIO,
    meaning="Share of deployments that succeeded over the last 5 minutes of this process",
    labels=(labels.DEPLOYMENT_SOURCE,),
    guide=True,
)
CONTAINERS = Metric(
    name="victor.devops.containers_managed",
    kind=Kind.GAUGE,
    meaning="Containers that Victor started in this process and has not stopped",
    guide=True,
)
PIPELINES = Metric(
    name="victor.devops.ci_pipelines_executed",
    kind=Kind.COUNTER,
    meaning="CI pipeline runs that ended, once each; skipped ones were not executed",
    labels=(labels.STATUS,),
    guide=True,
)

DEPLOYMENT = Scope(name="deployment", outermost=True)

MAX_IDS = 10_000
"""Containers, and pipeline runs, remembered at once; beyond it the oldest is forgotten."""

_OUTCOMES = {
    "success": "success",
    "succeeded": "success",
    "successful": "success",
    "completed": "success",
    "deployed": "success",
    "failure": "failure",
    "failed": "failure",
    "error": "failure",
    "rolled_back": "failure",
    "timeout": "timeout",
    "timed_out": "timeout",
    "cancelled": "cancelled",
    "canceled": "cancelled",
    "aborted": "cancelled",
}
"""The words for something that is over. Any other is still under way, or says nothing."""

_SERVICES = "victor.workflows.services.providers"
_HANDLERS = "victor.workflows.deployment"
_HANDLER_SOURCES = {
    DOCKER_DEPLOYMENT: "docker",
    KUBERNETES_DEPLOYMENT: "kubernetes",
    ECS_DEPLOYMENT: "ecs",
}


def outcome(word: object) -> str | None:
    """The status that a word of the caller's stands for; None if it is not a final one."""
    text = getattr(word, "value", word)
    if not isinstance(text, str):
        return None
    return _OUTCOMES.get(text.strip().lower().replace("-", "_").replace(" ", "_"))


def deploys(call: Call) -> bool:
    """Victor's local handler, there for every workflow, does nothing; so does its remote one."""
    return not is_a(call.instance, LOCAL_DEPLOYMENT, REMOTE_DEPLOYMENT)


def applies_terraform(call: Call) -> bool:
    """As opposed to a plan, which is a preview, and to a destruction."""
    node = call.argument("node", 0)
    return mapping(getattr(node, "input_mapping", None)).get("operation") == "apply"


def is_remembered_apply(call: Call) -> bool:
    """Victor takes `terraform apply` for a reading command and may answer it from its cache."""
    command = str(call.argument("command", 0))
    applies = command.endswith((" apply tfplan", " apply -auto-approve"))
    return applies and call.result is not None


def _terraform_status(call: Call) -> str:
    """Victor calls a command that ended with an error a success, but repeats what it said."""
    if call.status != "success":
        return call.status
    told = mapping(mapping(getattr(call.result, "output", None)).get("output"))
    succeeded = getattr(call.result, "success", False) and told.get("success") is not False
    return "success" if succeeded else "failure"


def _record_deployment(record: Record, source: str, status: str) -> None:
    record(DEPLOYMENTS, source=source)
    if status != "cancelled":
        record(DEPLOYMENT_SUCCESS_RATE, status == "success", source=source)


class _Ids:
    """A set that forgets its oldest member rather than grow beyond `MAX_IDS`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[object, ...], None] = {}

    def add(self, key: tuple[object, ...]) -> bool:
        """Whether it was new."""
        with self._lock:
            if key in self._known:
                return False
            self._known[key] = None
            if len(self._known) > MAX_IDS:
                del self._known[next(iter(self._known))]
            return True

    def discard(self, key: tuple[object, ...]) -> None:
        with self._lock:
            self._known.pop(key, None)

    def __len__(self) -> int:
        return len(self._known)


class Devops:
    """Which containers run, and which pipeline runs are counted, by their ids alone."""

    def __init__(self) -> None:
        self._containers = _Ids()
        self._runs = _Ids()
        self._prepared: weakref.WeakKeyDictionary[Any, tuple[object, ...]] = (
            weakref.WeakKeyDictionary()
        )
        """The container of each deployment handler, which forgets it while it cleans up."""

    def observe_told(self, call: Call, record: Record) -> None:
        """A deployment that a conversation was told of."""
        status = outcome(call.argument("status", 2))
        if status is not None:
            _record_deployment(record, "conversation", status)

    def observe_terraform(self, call: Call, record: Record) -> None:
        if not any(part.digest for part in call.parts.get("answered", ())):
            _record_deployment(record, "terraform", _terraform_status(call))

    def observe_prepare(self, call: Call, record: Record) -> None:
        sources = (source for cls, source in _HANDLER_SOURCES.items() if is_a(call.instance, cls))
        _record_deployment(record, next(sources, "other"), call.status)

    def observe_prepared(self, call: Call, _record: Record) -> None:
        """Docker's and Kubernetes' handlers hold a container until they clean up."""
        handler = call.instance
        name = getattr(handler, "container_id", None) or getattr(handler, "pod_name", None)
        if call.error is None and name:
            self._prepared[handler] = key = (name,)
            self._containers.add(key)

    def observe_cleaned(self, call: Call, _record: Record) -> None:
        key = self._prepared.pop(call.instance, None)
        if key is not None:
            self._containers.discard(key)

    def observe_start(self, call: Call, _record: Record) -> None:
        """Plain processes and services of a cloud have handles as well, without a container."""
        handle = call.result
        contained = getattr(handle, "container_id", None) or is_a(
            call.instance, KUBERNETES_SERVICES
        )
        if call.error is None and contained:
            self._containers.add(_handle_key(handle))

    def observe_stop(self, call: Call, _record: Record) -> None:
        if call.error is None:
            self._containers.discard(_handle_key(call.argument("handle", 0)))

    def observe_run(self, call: Call, record: Record) -> None:
        """Victor may fail to store a run, and be told of it again; it took place once."""
        run = call.argument("run", 0)
        status = outcome(getattr(run, "status", None))
        names = ("platform", "pipeline_name", "run_id", "started_at")
        if status is not None and self._runs.add(tuple(getattr(run, n, None) for n in names)):
            record(PIPELINES, status=status)

    def read_containers(self) -> Iterator[tuple[float, Mapping[str, str]]]:
        yield len(self._containers), {}


def _handle_key(handle: Any) -> tuple[object, ...]:
    return handle.service_id, handle.container_id


_FEEDS = (DEPLOYMENTS, DEPLOYMENT_SUCCESS_RATE)

AREA = Area(
    name="devops",
    metrics=(DEPLOYMENTS, DEPLOYMENT_SUCCESS_RATE, CONTAINERS, PIPELINES),
    hooks=(
        Hook(
            target="victor_devops.conversation_enhanced:"
            "EnhancedDevOpsConversationManager.track_deployment",
            scope=DEPLOYMENT,
            observe=Devops.observe_told,
            feeds=_FEEDS,
        ),
        Hook(
            target="victor_devops.handlers:TerraformHandler.__call__",
            when=applies_terraform,
            scope=DEPLOYMENT,
            observe=Devops.observe_terraform,
            feeds=_FEEDS,
        ),
        Hook(
            target="victor.tools.shell_command_cache:ShellCommandCache.get",
            part="answered",
            of=DEPLOYMENT,
            digest=is_remembered_apply,
        ),
        Hook(
            target=f"{_HANDLERS}:DeploymentHandler.prepare",
            overrides=True,
            when=deploys,
            scope=DEPLOYMENT,
            observe=Devops.observe_prepare,
            feeds=_FEEDS,
        ),
        Hook(
            target=f"{_HANDLERS}:DeploymentHandler.prepare",
            overrides=True,
            observe=Devops.observe_prepared,
            feeds=(CONTAINERS,),
        ),
        Hook(
            target=f"{_HANDLERS}:DeploymentHandler.cleanup",
            overrides=True,
            observe=Devops.observe_cleaned,
            feeds=(CONTAINERS,),
        ),
        # What `start`, `stop` and `cleanup` do where they do something: a container exists
        # before `start` finds it healthy, and a stop after a failed one is ignored.
        *(
            Hook(
                target=f"{_SERVICES}.base:BaseServiceProvider.{method}",
                overrides=True,
                observe=observe,
                feeds=(CONTAINERS,),
            )
            for method, observe in (
                ("_do_start", Devops.observe_start),
                ("_do_stop", Devops.observe_stop),
                ("_do_cleanup", Devops.observe_stop),
            )
        ),
        Hook(
            target="victor.observability.pipeline.manager:PipelineManager.record_run",
            observe=Devops.observe_run,
            feeds=(PIPELINES,),
        ),
    ),
    readings=(Reading(metric=CONTAINERS, read=Devops.read_containers),),
    state=Devops,
)
