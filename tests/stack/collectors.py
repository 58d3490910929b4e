"""What goes into a Collector, and what comes out of it."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import grpc
import httpx
import trustme
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from tests.stack.processes import HOST, Collector, Labels, program
from tools.paths import COLLECTOR

TLS, TOKEN, AGENT, GATEWAY = (COLLECTOR / f"{n}.yaml" for n in ("tls", "token", "agent", "gateway"))

NAME = "pushed"


def shipped(*names: str) -> list[Path]:
    """Files of collector/ by their names."""
    return [COLLECTOR / f"{name}.yaml" for name in names]


def validate(files: Iterable[Path], **variables: str) -> str:
    """What `validate` complains about, '' if nothing."""
    command = [program("collector"), "validate", *(f"--config={path}" for path in files)]
    done = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode == 0) == (not done.stderr)
    return done.stderr


def points(count: int = 1, *, lifetime: str = "long", padding: int = 0) -> bytes:
    """A push of as many counters, each 1; `padding` makes every one of them larger."""
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    resource.resource.attributes.extend(
        [
            _pair("service.name", "victor"),
            _pair("service.instance.id", "one"),
            _pair("host.name", "shop-1"),
            _pair("process.pid", "7"),
            _pair("victor.process.lifetime", lifetime),
        ]
    )
    total = resource.scope_metrics.add().metrics.add(name=NAME).sum
    total.is_monotonic = True
    total.aggregation_temporality = (
        AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
        if lifetime == "short"
        else AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    )
    for number in range(count):
        point = total.data_points.add(as_int=1, time_unix_nano=1 + number)
        point.attributes.extend([_pair("number", str(number)), _pair("padding", "x" * padding)])
    return request.SerializeToString()


def _pair(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


def post(url: str, body: bytes, token: str | None = None, tls: ssl.SSLContext | bool = True) -> int:
    """The status that a push by HTTP gets."""
    headers = {"content-type": "application/x-protobuf"}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    with (
        httpx.Client(trust_env=False, verify=tls, timeout=10) as client,
        # Who is refused may be cut off before the end of the answer.
        client.stream("POST", f"{url}/v1/metrics", content=body, headers=headers) as answer,
    ):
        return answer.status_code


def arrived(gateway: Collector) -> float:
    """How many points the Collector has let in."""
    return sum(own(gateway, "otelcol_receiver_accepted_metric_points").values())


def own(gateway: Collector, name: str) -> dict[Labels, float]:
    """The samples of one of the Collector's own metrics, by their labels.

    Read here, since the client library's parser puts the missing _total to every counter.
    """
    page = httpx.get(gateway.telemetry, trust_env=False).text
    samples = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", page, re.MULTILINE)
    return {
        frozenset(re.findall(r'(\w+)="(.*?)"', pairs)): float(value) for pairs, value in samples
    }


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """Files of an authority, of the Collector's certificate and of a client's."""

    ca: Path
    cert: Path
    key: Path
    client_cert: Path
    client_key: Path

    @property
    def variables(self) -> dict[str, str]:
        return {
            "VICTOR_COLLECTOR_TLS_CERT": str(self.cert),
            "VICTOR_COLLECTOR_TLS_KEY": str(self.key),
        }

    def trusting(self, *, client: bool = False) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca))
        if client:
            context.load_cert_chain(self.client_cert, self.client_key)
        return context

    def credentials(self, *, client: bool = False) -> grpc.ChannelCredentials:
        chain = (self.client_key.read_bytes(), self.client_cert.read_bytes()) if client else ()
        return grpc.ssl_channel_credentials(self.ca.read_bytes(), *chain)


def issue(folder: Path) -> Certificates:
    folder.mkdir()
    files = {name: folder / name for name in Certificates.__dataclass_fields__}
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(files["ca"]))
    for issued, cert, key in (
        (authority.issue_cert(HOST), "cert", "key"),
        (authority.issue_cert("victor"), "client_cert", "client_key"),
    ):
        issued.cert_chain_pems[0].write_to_path(str(files[cert]))
        issued.private_key_pem.write_to_path(str(files[key]))
    return Certificates(**files)


@dataclass
class Backend:
    """An OTLP endpoint that answers every push with `status`."""

    url: str = ""
    status: int = 200
    authorizations: list[str | None] = field(default_factory=list[str | None])


@contextmanager
def backend(status: int = 200) -> Generator[Backend]:
    answering = Backend(status=status)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            answering.authorizations.append(self.headers.get("authorization"))
            self.send_response(answering.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        answering.url = f"http://{HOST}:{server.server_port}"
        try:
            yield answering
        finally:
            server.shutdown()


def labels(**pairs: str) -> Labels:
    return frozenset(pairs.items())


def by_exporter(found: Mapping[Labels, float]) -> dict[str, float]:
    return {dict(pairs)["exporter"]: value for pairs, value in found.items()}
