"""DevOps: deployments, the containers that Victor runs, and CI pipelines.

Each deployment that ended counts, and a cancelled one is in no ratio. A deployment is one that a
conversation reported as final, one by a handler for Docker, Kubernetes or ECS, or a `terraform
apply` that was executed. Deployments nested in one call chain count once. A deployment that was
carried out and also told to a conversation counts once in each source. Victor's local and remote
handlers deploy nothing and do not count.

A container counts from its start until Victor stops it or cleans up. It still counts if its
handle is gone or the engine removed it, because Victor does not learn of that. A Kubernetes
service counts as one, however many replicas it has; ECS tasks, plain processes and cloud services
are not counted.

A pipeline run is identified by platform, pipeline, run and start, and counts once, even if Victor
fails to store it.
"""

import weakref
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from victor_otel.model.metric import Counter, Gauge, Ratio, Reading, Record
from victor_otel.model.operation import Operation, OperationType
from victor_otel.model.rows import Area, Begins, Observes, Target, Tells
from victor_otel.victor import labels
from victor_otel.victor.classes import (
    DOCKER_DEPLOYMENT,
    ECS_DEPLOYMENT,
    KUBERNETES_DEPLOYMENT,
    KUBERNETES_SERVICES,
    LOCAL_DEPLOYMENT,
    REMOTE_DEPLOYMENT,
    is_a,
)
from victor_otel.victor.remembered import Remembered
from victor_otel.victor.values import mapping


class Deployment(NamedTuple):
    """A deployment that Victor made, or was told of."""

    source: str
    status: str
    """Empty for one that is not over, or that was answered from a cache."""

    @property
    def judged(self) -> bool:
        return self.status not in {"", "cancelled"}

    @property
    def succeeded(self) -> bool:
        return self.status == "success"


class Apply(NamedTuple):
    """A look for a remembered answer to a `terraform apply`."""

    remembered: bool


DEPLOYMENT = OperationType("deployment", Deployment, outermost=True)
APPLY = OperationType("terraform_apply", Apply)

DEPLOYMENTS = Counter(
    "victor.devops.deployments",
    "Deployments that ended, with any outcome; calls of handlers that deploy nothing do not count",
    labels=(labels.DEPLOYMENT_SOURCE,),
    guide=True,
    of=DEPLOYMENT,
    when="status",
)
DEPLOYMENT_SUCCESS_RATE = Ratio(
    "victor.devops.deployment_success_rate",
    "Share of deployments that succeeded, over the last 5 minutes of this process",
    labels=(labels.DEPLOYMENT_SOURCE,),
    guide=True,
    of=DEPLOYMENT,
    when="judged",
    value="succeeded",
)
CONTAINERS = Gauge(
    "victor.devops.containers_managed",
    "Containers that Victor started in this process and has not stopped",
    guide=True,
)
PIPELINES = Counter(
    "victor.devops.ci_pipelines_executed",
    "CI pipeline runs that ended; each counts once, and skipped runs do not count",
    labels=(labels.STATUS,),
    guide=True,
)

MAX_IDS = 10_000
"""Containers, and pipeline runs, remembered at once."""

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

_SERVICES = "victor.workflows.services.providers.base:BaseServiceProvider"
_CONVERSATION = "victor_devops.conversation_enhanced:EnhancedDevOpsConversationManager"
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


def deploys(deployment: Operation) -> bool:
    """Victor's local handler, there for every workflow, does nothing; so does its remote one."""
    return not is_a(deployment.instance, LOCAL_DEPLOYMENT, REMOTE_DEPLOYMENT)


def read_prepared(deployment: Operation) -> Deployment:
    handler = deployment.instance
    sources = (source for cls, source in _HANDLER_SOURCES.items() if is_a(handler, cls))
    return Deployment(next(sources, "other"), deployment.status)


def read_told(deployment: Operation) -> Deployment:
    """A deployment that a conversation was told of."""
    return Deployment("conversation", outcome(deployment.argument("status")) or "")


def applies_terraform(deployment: Operation) -> bool:
    """As opposed to a plan, which is a preview, and to a destruction."""
    node = deployment.argument("node")
    return mapping(getattr(node, "input_mapping", None)).get("operation") == "apply"


def read_terraform(deployment: Operation) -> Deployment:
    answered = True in deployment.told("answered")
    return Deployment("terraform", "" if answered else _terraform_status(deployment))


def _terraform_status(deployment: Operation) -> str:
    """Victor calls a command that ended with an error a success, but repeats what it said."""
    if deployment.status != "success":
        return deployment.status
    told = mapping(mapping(getattr(deployment.result, "output", None)).get("output"))
    succeeded = getattr(deployment.result, "success", False) and told.get("success") is not False
    return "success" if succeeded else "failure"


def is_apply(lookup: Operation) -> bool:
    """Victor takes `terraform apply` for a reading command and may answer it from its cache."""
    return str(lookup.argument("command")).endswith((" apply tfplan", " apply -auto-approve"))


class Devops:
    """Which containers run, and which pipeline runs are counted, by their ids alone."""

    def __init__(self) -> None:
        self._containers = Remembered[tuple[object, ...]](MAX_IDS)
        self._runs = Remembered[tuple[object, ...]](MAX_IDS)
        self._prepared: weakref.WeakKeyDictionary[Any, tuple[object, ...]] = (
            weakref.WeakKeyDictionary()
        )
        """The container of each deployment handler, which forgets it while it cleans up."""

    def observe_prepared(self, deployment: Operation, _record: Record) -> None:
        """Docker's and Kubernetes' handlers hold a container until they clean up."""
        handler = deployment.instance
        name = getattr(handler, "container_id", None) or getattr(handler, "pod_name", None)
        if deployment.error is None and name:
            self._prepared[handler] = key = (name,)
            self._containers.add(key)

    def observe_cleaned(self, cleanup: Operation, _record: Record) -> None:
        key = self._prepared.pop(cleanup.instance, None)
        if key is not None:
            self._containers.discard(key)

    def observe_start(self, start: Operation, _record: Record) -> None:
        """Plain processes and services of a cloud have handles as well, without a container."""
        handle = start.result
        contained = getattr(handle, "container_id", None) or is_a(
            start.instance, KUBERNETES_SERVICES
        )
        if start.error is None and contained:
            self._containers.add(_handle_key(handle))

    def observe_stop(self, stop: Operation, _record: Record) -> None:
        if stop.error is None:
            self._containers.discard(_handle_key(stop.argument("handle")))

    def observe_run(self, recorded: Operation, record: Record) -> None:
        """Victor may fail to store a run, and be told of it again; it took place once."""
        run = recorded.argument("run")
        status = outcome(getattr(run, "status", None))
        names = ("platform", "pipeline_name", "run_id", "started_at")
        key = tuple(getattr(run, name, None) for name in names)
        if status is not None and self._runs.add(key) is None:
            record(PIPELINES, status=status)

    def read_containers(self) -> Iterator[tuple[float, Mapping[str, str]]]:
        yield len(self._containers), {}


def _handle_key(handle: Any) -> tuple[object, ...]:
    return handle.service_id, handle.container_id


_PREPARE = Target(f"{_HANDLERS}:DeploymentHandler.prepare", overrides=True)

AREA = Area(
    name="devops",
    metrics=(DEPLOYMENTS, DEPLOYMENT_SUCCESS_RATE, CONTAINERS, PIPELINES),
    rows=(
        Begins(
            DEPLOYMENT,
            Target(f"{_CONVERSATION}.track_deployment", arguments=("status",)),
            read=read_told,
        ),
        Begins(
            DEPLOYMENT,
            Target("victor_devops.handlers:TerraformHandler.__call__", arguments=("node",)),
            when=applies_terraform,
            read=read_terraform,
        ),
        Begins(
            APPLY,
            Target(
                "victor.tools.shell_command_cache:ShellCommandCache.get", arguments=("command",)
            ),
            when=is_apply,
            read=lambda lookup: Apply(lookup.result is not None),
        ),
        Tells(DEPLOYMENT, "answered", APPLY, read=lambda apply: apply.remembered),
        Begins(DEPLOYMENT, _PREPARE, when=deploys, read=read_prepared),
        Observes(_PREPARE, Devops.observe_prepared, feeds=(CONTAINERS,)),
        Observes(
            Target(f"{_HANDLERS}:DeploymentHandler.cleanup", overrides=True),
            Devops.observe_cleaned,
            feeds=(CONTAINERS,),
        ),
        # What `start`, `stop` and `cleanup` do where they do something: a container exists
        # before `start` finds it healthy, and a stop after a failed one is ignored.
        Observes(
            Target(f"{_SERVICES}._do_start", overrides=True),
            Devops.observe_start,
            feeds=(CONTAINERS,),
        ),
        *(
            Observes(
                Target(f"{_SERVICES}.{stop}", arguments=("handle",), overrides=True),
                Devops.observe_stop,
                feeds=(CONTAINERS,),
            )
            for stop in ("_do_stop", "_do_cleanup")
        ),
        Observes(
            Target(
                "victor.observability.pipeline.manager:PipelineManager.record_run",
                arguments=("run",),
            ),
            Devops.observe_run,
            feeds=(PIPELINES,),
        ),
    ),
    readings=(Reading(metric=CONTAINERS, read=Devops.read_containers),),
    state=Devops,
)
