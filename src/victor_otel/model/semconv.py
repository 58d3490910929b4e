"""Names and buckets of OpenTelemetry's GenAI semantic conventions, v0.1.0.

https://github.com/open-telemetry/semantic-conventions-genai/tree/v0.1.0. They are in development
and no package has them; a name that changes there changes here, and nowhere else. What v1.41 had,
which most backends know today, is at the end.
"""

from __future__ import annotations

OPERATION_NAME = "gen_ai.operation.name"
CONVERSATION_ID = "gen_ai.conversation.id"
USER_ID = "user.id"
AGENT_NAME = "gen_ai.agent.name"
PROVIDER_NAME = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE = "gen_ai.request.temperature"
RESPONSE_ID = "gen_ai.response.id"
RESPONSE_MODEL = "gen_ai.response.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS = "gen_ai.usage.cache_write.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
TOOL_NAME = "gen_ai.tool.name"
TOOL_TYPE = "gen_ai.tool.type"
TOOL_CALL_ID = "gen_ai.tool.call.id"
TOOL_CALL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_CALL_RESULT = "gen_ai.tool.call.result"
MEMORY_QUERY = "gen_ai.memory.query.text"
RETRIEVAL_QUERY = "gen_ai.retrieval.query.text"
TOOL_DEFINITIONS = "gen_ai.tool.definitions"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
MCP_METHOD = "mcp.method.name"
RPC_STATUS_CODE = "rpc.response.status_code"
MEMORY_RECORD_COUNT = "gen_ai.memory.record.count"
DATA_SOURCE = "gen_ai.data_source.id"
RETRIEVAL_TOP_K = "gen_ai.retrieval.top_k"
MODALITY = "gen_ai.token.modality"
ERROR_TYPE = "error.type"
OTHER_ERROR = "_OTHER"
"""An error of which no more is known."""

INFERENCE_DETAILS = "gen_ai.client.inference.operation.details"
"""The event that has the contents of a call to a model."""

INFERENCE_DURATION = "gen_ai.client.inference.duration"
INFERENCE_FIRST_CHUNK = "gen_ai.client.inference.time_to_first_chunk"
INFERENCE_INPUT = "gen_ai.client.inference.operation.input_tokens"
INFERENCE_OUTPUT = "gen_ai.client.inference.operation.output_tokens"
USED_INPUT = "gen_ai.client.inference.usage.input_tokens"
USED_OUTPUT = "gen_ai.client.inference.usage.output_tokens"
USED_CACHE_READ = "gen_ai.client.inference.usage.cache_read.input_tokens"
USED_CACHE_WRITE = "gen_ai.client.inference.usage.cache_write.input_tokens"
USED_REASONING = "gen_ai.client.inference.usage.reasoning.output_tokens"
TOOL_DURATION = "gen_ai.execute_tool.duration"
AGENT_DURATION = "gen_ai.invoke_agent.duration"
AGENT_INFERENCE_CALLS = "gen_ai.invoke_agent.inference_calls"
AGENT_TOOL_CALLS = "gen_ai.invoke_agent.tool_calls"
EMBEDDINGS_DURATION = "gen_ai.client.embeddings.duration"
RETRIEVAL_DURATION = "gen_ai.retrieval.duration"
OPERATION_DURATION = "gen_ai.client.operation.duration"
"""Of what has no metric of its own; in v1.41 of calls to models, and of nothing else here."""
MCP_CLIENT_DURATION = "mcp.client.operation.duration"
MCP_SERVER_DURATION = "mcp.server.operation.duration"
MCP_CLIENT_SESSION = "mcp.client.session.duration"
MCP_SERVER_SESSION = "mcp.server.session.duration"

SECONDS = tuple(0.01 * 2**power for power in range(14))
"""Buckets of a call to a model or a tool, and of an operation on a memory."""
AGENT_SECONDS = tuple(0.1 * 2**power for power in range(13))
MCP_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
TOKENS = tuple(float(4**power) for power in range(14))
CALLS = tuple(float(2**power) for power in range(8))

OLD_TOKENS = "gen_ai.client.token.usage"
OLD_TYPE = "gen_ai.token.type"
