"""Deployments, containers and pipelines, without any engine.

No container engine, cluster, cloud or infrastructure can be had where tests run. What stands
for them is as far out as can be: the SDK that Victor calls, the program that it starts.
Everything between is Victor's own.
"""

from __future__ import annotations

import contextlib
import os
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

from tests.scenarios.scenario import Count, Scenario
from victor_otel.victor.verticals.devops import (
    CONTAINERS,
    DEPLOYMENT_SUCCESS_RATE,
    DEPLOYMENTS,
    PIPELINES,
)

DEPLOYED = "victor_devops_deployments_total"
RATE = "victor_devops_deployment_success_rate"
RUNNING = "victor_devops_containers_managed"
EXECUTED = "victor_devops_ci_pipelines_executed_total"


class DockerError(Exception):
    """What the Docker SDK raises."""


class NotFound(DockerError):
    """The daemon has no such object."""


class Daemon:
    """A Docker daemon, and its SDK, that keeps containers by name only."""

    def __init__(self) -> None:
        self.made = 0
        self.running: dict[str, SimpleNamespace] = {}
        self.stuck = False
        """Whether containers refuse to stop or to go away."""
        self.images = SimpleNamespace(get=lambda image: image)
        self.networks = SimpleNamespace(get=lambda name: name)
        self.containers = SimpleNamespace(run=self.run, get=self.get)

    def run(self, image: str = "", **options: Any) -> SimpleNamespace:
        if "missing" in image:
            raise DockerError("no such image")
        self.made += 1
        made = SimpleNamespace(id=f"{self.made:064x}", attrs={})
        made.reload = lambda: None
        made.stop = lambda **_: self._refuse()
        made.remove = lambda **_: (self._refuse(), self.running.pop(made.id))
        self.running[made.id] = made
        return made

    def get(self, name: str) -> SimpleNamespace:
        if name not in self.running:
            raise NotFound
        return self.running[name]

    def _refuse(self) -> None:
        if self.stuck:
            raise DockerError("did not stop")


class Cluster:
    """A Kubernetes cluster, and its client, in which everything is ready at once."""

    ConfigException = type("ConfigException", (Exception,), {})
    ApiException = type("ApiException", (Exception,), {"status": 500})

    def __init__(self) -> None:
        self.phase = "Running"
        self.deployments: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        """All the rest of the API: descriptions of objects, clients and loaders of settings."""
        if name.startswith("V1"):
            return SimpleNamespace
        if name.endswith("Api"):
            return lambda **_: self
        return lambda *_, **__: SimpleNamespace(status=SimpleNamespace(phase=self.phase))

    def create_namespaced_deployment(self, namespace: str, body: Any) -> None:
        if self.phase == "Failed":
            raise self.ApiException
        self.deployments.add(body.metadata.name)

    def read_namespaced_deployment(self, name: str, namespace: str) -> Any:
        return SimpleNamespace(
            status=SimpleNamespace(ready_replicas=1), spec=SimpleNamespace(replicas=1)
        )

    def delete_namespaced_deployment(self, name: str, namespace: str, body: Any) -> None:
        self.deployments.remove(name)


class Cloud:
    """Amazon's SDK, whose tasks run at once."""

    def client(self, _service: str) -> Cloud:
        return self

    def run_task(self, **_: Any) -> Any:
        return {"tasks": [{"taskArn": "task"}]}

    def describe_tasks(self, **_: Any) -> Any:
        return {"tasks": [{"lastStatus": "RUNNING"}]}

    def stop_task(self, **_: Any) -> None: ...


@contextlib.contextmanager
def installed(**modules: Any) -> Iterator[None]:
    """As if the packages of these names were installed."""
    before = {name: sys.modules.get(name) for name in modules}
    for name, content in modules.items():
        module: Any = ModuleType(name)
        module.__getattr__ = lambda attribute, of=content: getattr(of, attribute)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module


@contextlib.contextmanager
def docker() -> Iterator[Daemon]:
    """Docker's SDK, for Victor's service provider as well as for its deployments."""
    from victor.workflows.services.providers import docker as provider

    daemon = Daemon()
    sdk = SimpleNamespace(from_env=lambda: daemon)
    errors = {"APIError": DockerError, "ContainerError": DockerError, "ImageNotFound": NotFound}
    with (
        installed(docker=sdk),
        mock.patch.multiple(
            provider,
            create=True,
            docker=sdk,
            DOCKER_AVAILABLE=True,
            NotFound=NotFound,
            Container=SimpleNamespace,
            **errors,
        ),
    ):
        yield daemon


@contextlib.contextmanager
def kubernetes() -> Iterator[Cluster]:
    """Kubernetes' client, for the service provider as well as for deployments."""
    from victor.workflows.services.providers import kubernetes as provider

    cluster = Cluster()
    with (
        installed(kubernetes=SimpleNamespace(client=cluster, config=cluster)),
        mock.patch.multiple(
            provider,
            client=cluster,
            k8s_config=cluster,
            K8S_AVAILABLE=True,
            ApiException=cluster.ApiException,
        ),
    ):
        yield cluster


@contextlib.contextmanager
def terraform(code: int = 0) -> Iterator[Path]:
    """A `terraform` first on the path, which only notes how it was called."""
    folder = Path("bin").absolute()
    folder.mkdir(exist_ok=True)
    notes = folder / "calls"
    program = folder / "terraform"
    program.write_text(f'#!/bin/sh\necho "$*" >> "{notes}"\nexit {code}\n')
    program.chmod(0o755)
    notes.touch()
    with mock.patch.dict(os.environ, PATH=f"{folder}{os.pathsep}{os.environ['PATH']}"):
        yield notes


class Shell:
    """An application's own registry: Victor's does not fit what the Terraform handler asks."""

    def __init__(self) -> None:
        from victor.tools.bash import shell
        from victor.tools.registry import ToolRegistry

        self._registry = ToolRegistry()
        self._registry.register(shell)

    async def execute(self, name: str, command: str) -> Any:
        return await self._registry.execute(name, {}, cmd=command)


async def apply(registry: Any, operation: str = "apply", **inputs: Any) -> Any:
    """A node of a workflow that is Terraform's, on its own."""
    from victor.workflows.context import WorkflowContext
    from victor.workflows.definition import ComputeNode
    from victor_devops.handlers import TerraformHandler

    mapping = {"operation": operation, **inputs}
    node = ComputeNode(id="infra", name="infra", input_mapping=mapping)
    return await TerraformHandler()(node, WorkflowContext(), registry)


def service(name: str, provider: str = "docker", **options: Any) -> Any:
    from victor.workflows.services import ServiceConfig

    return ServiceConfig(name=name, provider=provider, **{"image": f"{name}:1", **options})


def unhealthy() -> Any:
    """A check that fails at once: nothing listens there."""
    from victor.workflows.services import HealthCheckConfig, HealthCheckType

    return HealthCheckConfig(
        type=HealthCheckType.TCP, host="127.0.0.1", port=1, retries=1, start_period=0
    )


def run(name: str, status: Any) -> Any:
    from victor.observability.pipeline import PipelinePlatform, PipelineRun

    return PipelineRun(
        run_id=name,
        pipeline_name="build",
        platform=PipelinePlatform.GITHUB_ACTIONS,
        status=status,
        started_at=datetime(2025, 1, 1, tzinfo=UTC),
    )


async def deploy(target: str, **config: Any) -> None:
    """A workflow run with a deployment around it, as an application starts one."""
    from victor.workflows.definition import WorkflowBuilder
    from victor.workflows.deployment import DeploymentConfig, DeploymentTarget
    from victor.workflows.runtime import RuntimeConfig, WorkflowRuntime

    deployment = DeploymentConfig(target=DeploymentTarget(target), **config)
    workflow = WorkflowBuilder("release").add_transform("work", lambda state: state).build()
    await WorkflowRuntime(RuntimeConfig(deployment=deployment)).execute(workflow)


async def told(count: Count) -> None:
    """A conversation is told of deployments, of which some are not over yet."""
    from victor_devops.conversation_enhanced import EnhancedDevOpsConversationManager

    manager = EnhancedDevOpsConversationManager()
    for status in ("pending", "success", "in_progress", "failed", "Success", "cancelled", "?"):
        manager.track_deployment("shop", "staging", status, "1.2.3")
    count.add(DEPLOYED, 4, source="conversation")
    count.ratio(RATE, 2, 3, source="conversation")


async def workflow_deployments(count: Count) -> None:
    """Workflows on every target of which Victor has a handler."""
    from victor.workflows.deployment import DockerConfig, ECSConfig

    with docker() as daemon:
        await deploy("docker")
        with contextlib.suppress(DockerError):
            await deploy("docker", docker=DockerConfig(image="missing"))
        assert not daemon.running
    count.add(DEPLOYED, 2, source="docker")
    count.ratio(RATE, 1, 2, source="docker")
    with kubernetes() as cluster:
        await deploy("kubernetes")
        cluster.phase = "Failed"
        with contextlib.suppress(RuntimeError):
            await deploy("kubernetes")
    count.add(DEPLOYED, 2, source="kubernetes")
    count.ratio(RATE, 1, 2, source="kubernetes")
    with installed(boto3=Cloud()):
        await deploy("ecs", ecs=ECSConfig(subnets=["a"]))
        with contextlib.suppress(ValueError):
            await deploy("ecs")  # without a subnet
    count.add(DEPLOYED, 2, source="ecs")
    count.ratio(RATE, 1, 2, source="ecs")
    for target in ("local", "inline", "sandbox", "remote"):  # Victor does nothing for them
        await deploy(target)
    count.set(RUNNING, 0)


async def infrastructure(count: Count) -> None:
    """Terraform through Victor's shell tool: plans, applies, failures that look like successes."""
    from victor.tools.registry import ToolRegistry
    from victor.tools.shell_command_cache import clear_shell_cache

    clear_shell_cache()
    with terraform() as notes:
        await apply(Shell(), "plan")
        assert (await apply(Shell())).success
        assert (await apply(Shell())).success  # answered from a cache, and not run again
        assert (await apply(Shell(), auto_approve=True)).success
        await apply(Shell(), "destroy")
        assert not (await apply(ToolRegistry())).success  # does not fit
        called = notes.read_text().splitlines()
    applied = called.count("apply tfplan") + called.count("apply -auto-approve")
    assert applied == 2
    clear_shell_cache()
    with terraform(code=1) as notes:
        assert (await apply(Shell())).success  # Victor calls it one
        assert notes.read_text().endswith("apply tfplan\n")
    clear_shell_cache()
    count.add(DEPLOYED, applied + 2, source="terraform")
    count.ratio(RATE, applied, applied + 2, source="terraform")


async def services(count: Count) -> None:
    """Services of every kind are started and stopped; three containers are left running."""
    from victor.workflows.services import (
        ServiceHealthError,
        ServiceRegistry,
        ServiceStartError,
        get_docker_provider,
        get_external_provider,
        get_kubernetes_provider,
        get_local_provider,
    )

    with docker() as daemon, kubernetes() as cluster:
        local = get_local_provider()
        registry = ServiceRegistry()
        registry.register_provider("docker", get_docker_provider())
        registry.register_provider("external", get_external_provider())
        registry.register_provider("local", local)
        await registry.start_all(
            [
                service("database"),
                service("cache"),
                service("endpoint", "external", endpoint="db.example:5432"),
                service("process", "local", command=["sleep", "60"]),
            ]
        )
        provider = get_docker_provider()
        queue = await provider.start(service("queue"))
        proxy = await provider.start(service("proxy"))
        await provider.stop(queue)
        await provider.stop(queue)
        daemon.stuck = True
        with contextlib.suppress(DockerError):
            await provider.stop(proxy)
        await provider.stop(proxy)  # ignored: it has failed to
        daemon.stuck = False
        for broken, error in (
            (service("missing"), ServiceStartError),
            (service("ill", health_check=unhealthy()), ServiceHealthError),
        ):
            with contextlib.suppress(error):
                await provider.start(broken)
        await get_kubernetes_provider().start(service("search", "kubernetes"))
        gone = await get_kubernetes_provider().start(service("mail", "kubernetes"))
        await get_kubernetes_provider().stop(gone)
        await registry.get_provider("docker").cleanup(registry.get_handle("cache"))
        await local.cleanup(registry.get_handle("process"))
        running = len(daemon.running) + len(cluster.deployments)
    assert running == 3  # the database, the proxy, the search
    count.set(RUNNING, running)


async def pipelines(count: Count) -> None:
    """Runs in every state; Victor stores every other one, and raises for the rest."""
    from victor.observability.pipeline import PipelineManager, PipelineStatus

    manager = PipelineManager(Path.cwd())
    stored = failed = 0
    for status in (*PipelineStatus, PipelineStatus.SUCCESS):
        try:
            await manager.record_run(run(uuid.uuid4().hex, status))
            stored += 1
        except AttributeError:
            failed += 1
    assert (stored, failed) == (4, 3)
    count.add(EXECUTED, 2, status="success")
    count.add(EXECUTED, status="failure")
    count.add(EXECUTED, status="cancelled")


_TOLD = (DEPLOYMENTS, DEPLOYMENT_SUCCESS_RATE)

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(run=told, proves=_TOLD, needs=("victor-devops",)),
    Scenario(run=workflow_deployments, proves=(*_TOLD, CONTAINERS)),
    Scenario(run=infrastructure, proves=_TOLD, needs=("victor-devops",)),
    Scenario(run=services, proves=(CONTAINERS,)),
    Scenario(run=pipelines, proves=(PIPELINES,)),
)
