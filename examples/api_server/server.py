"""Victor's API server, run by an application of one's own."""

from __future__ import annotations

import os

import uvicorn
from victor.integrations.api.fastapi_server import create_fastapi_app

app = create_fastapi_app()

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")), log_level="warning")
