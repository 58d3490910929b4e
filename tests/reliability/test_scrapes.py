"""The real Prometheus scrapes an endpoint that demands TLS and a password, as our page says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from tests.kit.processes import free_port
from tests.kit.web_config import PASSWORD, Folder, hashed
from tests.reliability.scrapers import Served, serving
from tests.stack.processes import prometheus_in, query, wait_until
from tools import markdown
from tools.paths import DEPLOY

pytestmark = pytest.mark.stack


def documented() -> dict[str, Any]:
    """The job on Prometheus's page that scrapes with `scheme: https`."""
    page = (DEPLOY / "prometheus" / "README.md").read_text(encoding="utf-8")
    blocks = [block.text for block in markdown.blocks(page, "yaml")]
    (block,) = [block for block in blocks if "scheme: https" in block]
    (job,) = yaml.safe_load(block)["scrape_configs"]
    return job


def test_prometheus_scrapes_with_tls_and_password_and_in_no_other_way(tmp_path: Path) -> None:
    authority = trustme.CA()
    folder = Folder(tmp_path, authority)
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "wrong").write_text("wrong")
    client = authority.issue_cert("prometheus")
    client.private_key_pem.write_to_path(str(tmp_path / "client.key"))
    client.cert_chain_pems[0].write_to_path(str(tmp_path / "client.crt"))
    demanding = {"client_ca_file": "ca.pem", "client_auth_type": "RequireAndVerifyClientCert"}
    secured = folder.write({"prometheus": hashed(cost=10)}).read_text()
    (tmp_path / "mutual.yml").write_text(folder.write(**demanding).read_text())
    folder.file.write_text(secured)
    with serving(folder.file) as passwords, serving(tmp_path / "mutual.yml") as certificates:

        def job(
            served: Served, *, password: str = "", scheme: str = "https", **client: str
        ) -> dict[str, Any]:
            made = documented()
            made["static_configs"] = [{"targets": [f"127.0.0.1:{served.endpoint.port}"]}]
            made["scheme"] = scheme
            made["tls_config"] = {"ca_file": "ca.pem", **client}
            if password:
                made["basic_auth"]["password_file"] = password
            else:
                del made["basic_auth"]
            return made

        jobs = {
            "right": job(passwords, password="password"),
            "wrong": job(passwords, password="wrong"),
            "nobody": job(passwords),
            "plain": job(passwords, password="password", scheme="http"),
            "known": job(certificates, cert_file="client.crt", key_file="client.key"),
            "unknown": job(certificates),
        }
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{**made, "job_name": name} for name, made in jobs.items()],
        }
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
        with prometheus_in(tmp_path, free_port()) as prometheus:

            def up() -> dict[str, float]:
                return {labels["job"]: value for labels, value in query(prometheus.url, "up")}

            wait_until(
                lambda: up().get("right") == up().get("known") == 1 and len(up()) == len(jobs)
            )
            assert up() == {
                "right": 1,
                "known": 1,
                **dict.fromkeys(("wrong", "nobody", "plain", "unknown"), 0),
            }
            found = {labels["job"]: v for labels, v in query(prometheus.url, "acme_answer")}
            assert found == {"right": 42, "known": 42}
