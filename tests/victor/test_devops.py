"""Deployments, containers and pipelines, one by one."""

from __future__ import annotations

import asyncio
import gc
import importlib
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.kit.agents import Recorded, recording
from tests.scenarios.devops import (
    DockerError,
    Shell,
    apply,
    deploy,
    docker,
    kubernetes,
    run,
    service,
    terraform,
    unhealthy,
)
from victor_otel.runtime import RUNTIME
from victor_otel.victor.verticals import devops

DEPLOYED = "victor.devops.deployments"
RATE = "victor.devops.deployment_success_rate"
CONTAINERS = "victor.devops.containers_managed"
PIPELINES = "victor.devops.ci_pipelines_executed"

Points = dict[tuple[Any, ...], float]


pytestmark = pytest.mark.usefixtures("own_folder")


def deployed(source: str, count: int, rate: float | None) -> Points:
    """Deployments, and the share that succeeded; None where none of them is in the ratio."""
    label = ("source", source)
    ratio = {} if rate is None else {(RATE, label): rate}
    return {(DEPLOYED, label): count, **ratio}


def seen(recorded: Recorded) -> Points:
    """The deployments, and a ratio also where it is 0."""
    return {
        **recorded.points(DEPLOYED),
        **recorded.points(RATE, zeros=True),
    }


def running(recorded: Recorded) -> float:
    return recorded.points(CONTAINERS, zeros=True)[CONTAINERS,]


async def cancelled(work: Any) -> None:
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


# Deployments that a conversation is told of.


def tell(status: Any) -> None:
    from victor_devops.conversation_enhanced import EnhancedDevOpsConversationManager

    EnhancedDevOpsConversationManager().track_deployment("shop", "live", status=status)


@pytest.mark.parametrize("status", ["success", "Succeeded", " deployed ", "completed"])
def test_a_deployment_that_is_told_of_as_a_success_is_one(recorded: Recorded, status: str) -> None:
    tell(status)
    assert seen(recorded) == deployed("conversation", 1, 1)


@pytest.mark.parametrize("status", ["failure", "FAILED", "error", "timed out", "rolled-back"])
def test_a_deployment_that_is_told_of_as_a_failure_is_one(recorded: Recorded, status: str) -> None:
    tell(status)
    assert seen(recorded) == deployed("conversation", 1, 0)


def test_a_cancelled_deployment_is_in_no_ratio(recorded: Recorded) -> None:
    tell("cancelled")
    assert seen(recorded) == deployed("conversation", 1, None)


@pytest.mark.parametrize("status", ["pending", "in_progress", "not successful", "", None, 200, []])
def test_what_is_not_known_to_be_over_is_no_deployment(recorded: Recorded, status: Any) -> None:
    tell(status)
    assert seen(recorded) == {}


# Deployment handlers.


def handler(target: str, **config: Any) -> Any:
    from victor.workflows.deployment import (
        DeploymentConfig,
        DeploymentTarget,
        get_deployment_handler,
    )

    return get_deployment_handler(DeploymentConfig(target=DeploymentTarget(target), **config))


async def test_a_prepared_container_is_a_deployment_and_runs_until_it_is_cleaned_up(
    recorded: Recorded,
) -> None:
    with docker() as daemon:
        held = handler("docker")
        await held.prepare(None, None)
        assert seen(recorded) == deployed("docker", 1, 1)
        assert running(recorded) == len(daemon.running) == 1
        await held.cleanup()
        await held.cleanup()
        assert running(recorded) == len(daemon.running) == 0


async def test_a_handler_that_prepares_again_leaves_its_first_container_running(
    recorded: Recorded,
) -> None:
    with docker() as daemon:
        held = handler("docker")
        await held.prepare(None, None)
        await held.prepare(None, None)
        await held.cleanup()
        assert running(recorded) == len(daemon.running) == 1
        assert seen(recorded) == deployed("docker", 2, 1)


async def test_without_its_sdk_a_deployment_fails(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)
    with pytest.raises(RuntimeError, match="docker package"):
        await handler("docker").prepare(None, None)
    assert seen(recorded) == deployed("docker", 1, 0)
    assert running(recorded) == 0


async def test_a_pod_is_a_container(recorded: Recorded) -> None:
    with kubernetes():
        held = handler("kubernetes")
        await held.prepare(None, None)
        assert running(recorded) == 1
        await held.cleanup()
    assert running(recorded) == 0
    assert seen(recorded) == deployed("kubernetes", 1, 1)


async def test_a_pod_that_never_gets_ready_is_a_failure(recorded: Recorded) -> None:
    from victor.workflows.deployment import KubernetesConfig, KubernetesDeploymentHandler

    class Impatient(KubernetesDeploymentHandler):
        async def _wait_for_pod_ready(self, timeout: int = 0) -> None:
            await super()._wait_for_pod_ready(timeout=0)

    with kubernetes(), pytest.raises(TimeoutError):
        await Impatient(KubernetesConfig()).prepare(None, None)
    assert seen(recorded) == deployed("kubernetes", 1, 0)


def custom(base: Any = None, prepare: Any = None) -> Any:
    """A handler of an application's own, defined after the hooks were bound."""
    from victor.workflows.deployment import DeploymentHandler

    class Custom(base or DeploymentHandler):
        async def prepare(self, workflow: Any, config: Any) -> None:
            await (prepare or super().prepare)(workflow, config)

        async def execute_node(self, node: Any, state: Any) -> Any:
            return state

        async def cleanup(self) -> None:
            await super().cleanup()

    return Custom


async def test_a_handler_of_ones_own_deploys_as_well(recorded: Recorded) -> None:
    await custom()().prepare(None, None)
    assert seen(recorded) == deployed("other", 1, 1)


async def test_a_handler_that_extends_victors_is_one_deployment_of_that_kind(
    recorded: Recorded,
) -> None:
    from victor.workflows.deployment import DockerConfig, DockerDeploymentHandler

    with docker() as daemon:
        held = custom(DockerDeploymentHandler)(DockerConfig())
        await held.prepare(None, None)
        assert running(recorded) == len(daemon.running) == 1
        await held.cleanup()
    assert seen(recorded) == deployed("docker", 1, 1)
    assert running(recorded) == 0


async def test_a_handler_that_uses_another_is_one_deployment(recorded: Recorded) -> None:
    with docker():
        await custom(prepare=handler("docker").prepare)().prepare(None, None)
        assert running(recorded) == 1
    assert seen(recorded) == deployed("other", 1, 1)


async def test_a_cancelled_preparation_is_in_no_ratio(recorded: Recorded) -> None:
    async def dawdle(_workflow: Any, _config: Any) -> None:
        await asyncio.sleep(30)

    await cancelled(custom(prepare=dawdle)().prepare(None, None))
    assert seen(recorded) == deployed("other", 1, None)


@pytest.mark.parametrize("target", ["local", "inline", "airflow", "remote"])
async def test_where_victor_does_nothing_there_is_no_deployment(
    recorded: Recorded, target: str
) -> None:
    await deploy(target)
    assert seen(recorded) == {}


# Terraform.


@pytest.fixture
def shell() -> Iterator[Any]:
    from victor.tools.shell_command_cache import clear_shell_cache

    clear_shell_cache()
    yield Shell()
    clear_shell_cache()


@pytest.mark.parametrize("operation", ["init", "plan", "destroy", "appl", None])
async def test_only_an_apply_deploys(recorded: Recorded, shell: Any, operation: Any) -> None:
    with terraform():
        await apply(shell, operation)
    assert seen(recorded) == {}


async def test_an_apply_that_ends_with_an_error_fails_although_victor_calls_it_a_success(
    recorded: Recorded, shell: Any
) -> None:
    with terraform(code=1):
        assert (await apply(shell)).success
    assert seen(recorded) == deployed("terraform", 1, 0)


async def test_an_apply_that_a_cache_answers_took_place_once(
    recorded: Recorded, shell: Any
) -> None:
    with terraform() as notes:
        for _ in range(3):
            assert (await apply(shell)).success
        assert notes.read_text() == "apply tfplan\n"
    assert seen(recorded) == deployed("terraform", 1, 1)


async def test_another_command_that_a_cache_answers_hides_no_apply(
    recorded: Recorded, shell: Any
) -> None:
    with terraform():
        await shell.execute("shell", command="terraform workspace select live")
        await apply(shell, workspace="live")
    assert seen(recorded) == deployed("terraform", 1, 1)


async def test_an_apply_that_never_reaches_terraform_fails(recorded: Recorded) -> None:
    """As with Victor's own registry, which wants another argument."""
    from victor.tools.registry import ToolRegistry

    assert not (await apply(ToolRegistry())).success
    with pytest.raises(TypeError):
        await apply(ToolRegistry(), workspace="live")
    assert seen(recorded) == deployed("terraform", 2, 0)


async def test_an_apply_that_any_registry_runs_counts(recorded: Recorded) -> None:
    async def execute(_name: str, command: str) -> Any:
        return SimpleNamespace(success="apply" in command, output="text")

    assert (await apply(SimpleNamespace(execute=execute))).success
    assert seen(recorded) == deployed("terraform", 1, 1)


async def test_a_cancelled_apply_is_in_no_ratio(recorded: Recorded) -> None:
    async def execute(_name: str, command: str) -> Any:
        await asyncio.sleep(30)

    await cancelled(apply(SimpleNamespace(execute=execute)))
    assert seen(recorded) == deployed("terraform", 1, None)


async def test_an_apply_inside_a_preparation_is_part_of_it(recorded: Recorded, shell: Any) -> None:
    async def prepare(_workflow: Any, _config: Any) -> None:
        with terraform():
            assert (await apply(shell)).success
        tell("success")

    await custom(prepare=prepare)().prepare(None, None)
    assert seen(recorded) == deployed("other", 1, 1)


# Containers of services.


def provider() -> Any:
    from victor.workflows.services import get_docker_provider

    return get_docker_provider()


async def test_no_container_is_known_before_the_first(recorded: Recorded) -> None:
    importlib.import_module("victor.workflows.services.providers.base")
    assert running(recorded) == 0


async def test_a_container_counts_from_its_start_to_its_end(recorded: Recorded) -> None:
    with docker():
        held = await provider().start(service("cache"))
        other = await provider().start(service("cache"))
        assert running(recorded) == 2
        await provider().stop(held)
        assert running(recorded) == 1
        await provider().stop(held)
        await provider().cleanup(held)
        assert running(recorded) == 1
        await provider().cleanup(other)
        assert running(recorded) == 0


async def test_a_container_that_could_not_be_stopped_still_runs(recorded: Recorded) -> None:
    with docker() as daemon:
        held = await provider().start(service("cache"))
        daemon.stuck = True
        with pytest.raises(DockerError):
            await provider().stop(held)
        await provider().stop(held)  # Victor ignores it
        assert running(recorded) == len(daemon.running) == 1
        daemon.stuck = False
        await provider().cleanup(held)
        assert running(recorded) == len(daemon.running) == 0


async def test_a_start_that_fails_leaves_no_container(recorded: Recorded) -> None:
    from victor.workflows.services import ServiceHealthError, ServiceStartError

    with docker() as daemon:
        with pytest.raises(ServiceStartError):
            await provider().start(service("missing"))
        with pytest.raises(ServiceHealthError):
            await provider().start(service("ill", health_check=unhealthy()))
        assert running(recorded) == len(daemon.running) == 0


async def test_a_container_whose_start_was_given_up_still_runs(recorded: Recorded) -> None:
    """As `ServiceRegistry` does after its timeout: nobody has a handle then."""
    check = unhealthy()
    check.start_period = 30
    with docker() as daemon:
        await cancelled(provider().start(service("slow", health_check=check)))
        assert running(recorded) == len(daemon.running) == 1


async def test_a_container_that_is_gone_already_is_stopped(recorded: Recorded) -> None:
    with docker() as daemon:
        held = await provider().start(service("cache"))
        daemon.running.clear()
        await provider().stop(held)
        assert running(recorded) == 0


async def test_kubernetes_services_count_although_they_have_no_container_id(
    recorded: Recorded,
) -> None:
    from victor.workflows.services import get_kubernetes_provider

    with kubernetes():
        held = await get_kubernetes_provider().start(service("search", "kubernetes"))
        assert held.container_id is None
        assert running(recorded) == 1
        await get_kubernetes_provider().cleanup(held)
    assert running(recorded) == 0


async def test_processes_and_services_of_others_are_no_containers(recorded: Recorded) -> None:
    from victor.workflows.services import get_external_provider, get_local_provider

    local = get_local_provider()
    process = await local.start(service("process", "local", command=["sleep", "30"]))
    await get_external_provider().start(service("database", "external", endpoint="db:5432"))
    assert running(recorded) == 0
    await local.stop(process)
    assert running(recorded) == 0


async def test_a_provider_that_hands_out_one_container_twice_has_one(recorded: Recorded) -> None:
    from victor.workflows.services.definition import ServiceHandle
    from victor.workflows.services.providers.base import BaseServiceProvider

    class Shared(BaseServiceProvider):
        async def _do_start(self, config: Any) -> Any:
            return ServiceHandle("one", config, container_id="c")

        async def _do_stop(self, handle: Any, grace_period: float) -> None: ...

        async def _do_cleanup(self, handle: Any) -> None: ...

        async def get_logs(self, handle: Any, tail: int = 100) -> str:
            return ""

    await Shared().start(service("a"))
    held = await Shared().start(service("a"))
    assert running(recorded) == 1
    await Shared().stop(held)
    assert running(recorded) == 0


async def test_what_an_earlier_instrumentation_saw_start_is_not_subtracted(
    recorded: Recorded,
) -> None:
    with docker():
        early = await provider().start(service("cache"))
        RUNTIME.deactivate()
        RUNTIME.activate(recorded.provider).open()
        await provider().start(service("cache"))
        await provider().stop(early)
        assert running(recorded) == 1


async def test_neither_handles_nor_runs_nor_handlers_are_kept_alive(recorded: Recorded) -> None:
    with docker():
        held = await provider().start(service("cache"))
        deployer = handler("docker")
        await deployer.prepare(None, None)
        executed = run("1", "success")
        with pytest.raises(AttributeError):
            await record(executed)
        watched = [weakref.ref(one) for one in (held, deployer, executed)]
        del held, deployer, executed
        gc.collect()
        assert [one() for one in watched] == [None, None, None]
        assert running(recorded) == 2


# Pipelines.


async def record(executed: Any) -> None:
    from victor.observability.pipeline import PipelineManager

    await PipelineManager(Path.cwd()).record_run(executed)


def executed(**counts: int) -> Points:
    return {(PIPELINES, ("status", status)): count for status, count in counts.items()}


@pytest.mark.parametrize(
    ("status", "counts"),
    [
        ("success", {"success": 1}),
        ("failure", {"failure": 1}),
        ("cancelled", {"cancelled": 1}),
        ("skipped", {}),
        ("running", {}),
        ("pending", {}),
    ],
)
async def test_a_run_counts_when_it_was_executed_and_is_over(
    recorded: Recorded, status: str, counts: dict[str, int]
) -> None:
    from victor.observability.pipeline import PipelineStatus

    await record(run("1", PipelineStatus(status)))
    assert recorded.points(PIPELINES) == executed(**counts)


async def test_a_run_that_victor_cannot_store_took_place(recorded: Recorded) -> None:
    from victor.observability.pipeline import PipelineStatus

    await record(run("1", PipelineStatus.SUCCESS))
    with pytest.raises(AttributeError):
        await record(run("2", PipelineStatus.FAILURE))
    assert recorded.points(PIPELINES) == executed(success=1, failure=1)


async def test_a_run_that_is_recorded_again_took_place_once(recorded: Recorded) -> None:
    from victor.observability.pipeline import PipelineStatus

    await record(run("1", PipelineStatus.RUNNING))
    for _ in range(2):
        with pytest.raises(AttributeError):
            await record(run("1", PipelineStatus.SUCCESS))
        await record(run("1", PipelineStatus.SUCCESS))
    assert recorded.points(PIPELINES) == executed(success=1)


async def test_only_so_many_runs_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devops, "MAX_IDS", 2)
    with recording() as recorded:
        for number in (1, 2, 1, 3, 1, 2):  # the last one is forgotten by then
            with pytest.raises(AttributeError):
                await record(run(str(number), "success"))
        assert recorded.points(PIPELINES) == executed(success=4)


def test_counters_start_at_zero_and_ratios_with_the_first_deployment(recorded: Recorded) -> None:
    for module in ("victor_devops.handlers", "victor.observability.pipeline.manager"):
        importlib.import_module(module)
    RUNTIME.deactivate()
    RUNTIME.activate(recorded.provider).open()
    points = recorded.points(DEPLOYED, RATE, PIPELINES, zeros=True)
    sources = ("conversation", "terraform", "docker", "kubernetes", "ecs", "other")
    statuses = ("success", "failure", "timeout", "cancelled")
    assert points == {
        **{(DEPLOYED, ("source", source)): 0 for source in sources},
        **{(PIPELINES, ("status", status)): 0 for status in statuses},
    }
