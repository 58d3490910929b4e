"""A replica: Victor's API server in a process of its own, observed as its environment says.

`python -m tests.live.replica PORT MODEL_URL [PROVIDER]` serves until it is ended. With a provider
that Victor does not know it cannot make an agent, and answers 500.
"""

from __future__ import annotations

import sys

import uvicorn

from victor_otel.demo import sandbox


def main(port: str, model_url: str, provider: str = "openai") -> None:
    with sandbox():
        from victor.framework.session_config import ProviderOverrideConfig, SessionConfig
        from victor.integrations.api.fastapi_server import VictorFastAPIServer

        override = ProviderOverrideConfig(provider=provider, model="m", endpoint=model_url)
        server = VictorFastAPIServer(
            session_config=SessionConfig(provider_override=override), enable_graphql=False
        )
        uvicorn.run(server.app, host="127.0.0.1", port=int(port), log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
