"""Victor's classes that we recognise by their paths, since Victor is never imported here.

A class that Victor moves is no longer recognised, and what depends on it becomes untrue in
silence: so each stands here once, with every path that it has in a supported version, and
is tested against the installed Victor.
"""

from __future__ import annotations

from victor_otel.model.declared import declared

__all__ = ["ALL", "VictorClass", "is_a"]


@declared
class VictorClass:
    """A class and the modules in which it is defined, one in each supported version."""

    name: str
    modules: tuple[str, ...]

    @property
    def path(self) -> str:
        """What it is called here, whichever version is installed: its newest path."""
        return f"{self.modules[-1]}:{self.name}"


def is_a(value: object, *classes: VictorClass) -> bool:
    """Whether `value` is an instance of one of `classes`."""
    return any(
        cls.__qualname__ == known.name and cls.__module__ in known.modules
        for cls in type(value).__mro__
        for known in classes
    )


APPROVAL_PAUSE = VictorClass(
    "ApprovalPause",
    # The second one since 0.16, where the first one repeats it.
    ("victor.framework.approval_pause", "victor.agent.approval_pause"),
)
_ERRORS = ("victor.core.errors",)
VICTOR_ERROR = VictorClass("VictorError", _ERRORS)
PROVIDER_RATE_LIMIT_ERROR = VictorClass("ProviderRateLimitError", _ERRORS)
PROVIDER_TIMEOUT_ERROR = VictorClass("ProviderTimeoutError", _ERRORS)
TOOL_TIMEOUT_ERROR = VictorClass("ToolTimeoutError", _ERRORS)
MCP_SERVER = VictorClass("MCPServer", ("victor.integrations.mcp.server",))
ENTITY_MEMORY = VictorClass("EntityMemory", ("victor.storage.memory.entity_memory",))
CONVERSATION_STORE = VictorClass("ConversationStore", ("victor.agent.conversation.store",))
_HANDLERS = ("victor.workflows.deployment",)
LOCAL_DEPLOYMENT = VictorClass("LocalDeploymentHandler", _HANDLERS)
REMOTE_DEPLOYMENT = VictorClass("RemoteDeploymentHandler", _HANDLERS)
DOCKER_DEPLOYMENT = VictorClass("DockerDeploymentHandler", _HANDLERS)
KUBERNETES_DEPLOYMENT = VictorClass("KubernetesDeploymentHandler", _HANDLERS)
ECS_DEPLOYMENT = VictorClass("ECSDeploymentHandler", _HANDLERS)
KUBERNETES_SERVICES = VictorClass(
    "KubernetesServiceProvider", ("victor.workflows.services.providers.kubernetes",)
)

ALL = tuple(value for value in list(globals().values()) if isinstance(value, VictorClass))
