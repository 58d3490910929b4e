"""Web configuration files of the endpoint, with what they name, as tests need them."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import bcrypt
import trustme
import yaml

PASSWORD = "correct horse battery staple"
FAST = 4
"""The lowest cost of bcrypt."""


def hashed(password: str = PASSWORD, cost: int = FAST) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()


class Folder:
    """A web configuration with its certificates beside it."""

    def __init__(self, path: Path, authority: trustme.CA) -> None:
        self.path, self.authority = path, authority
        self.file = path / "web.yml"
        self.renew(authority)
        authority.cert_pem.write_to_path(str(path / "ca.pem"))

    def renew(self, authority: trustme.CA) -> None:
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(str(self.path / "tls.key"))
        self.path.joinpath("tls.crt").write_bytes(
            b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        )

    def write(self, users: dict[str, str] | None = None, **tls: Any) -> Path:
        config: dict[str, Any] = {}
        if tls.pop("tls", True):
            config["tls_server_config"] = {"cert_file": "tls.crt", "key_file": "tls.key", **tls}
        if users is not None:
            config["basic_auth_users"] = users
        self.file.write_text(yaml.safe_dump(config), encoding="utf-8")
        return self.file

    def trusting(self, client: trustme.CA | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.path / "ca.pem"))
        if client is not None:
            client.issue_cert("prometheus").configure_cert(context)
        return context
