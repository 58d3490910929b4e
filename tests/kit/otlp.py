"""OTLP backends in this process that answer as they are told, by HTTP and by gRPC."""

from __future__ import annotations

import gzip
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import trustme
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as messages
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as services
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_services


@dataclass
class Backend:
    """A backend. `answer` is the name of a gRPC code, or an HTTP status or what finds one for a
    body; it may change.
    """

    answer: Any
    port: int = 0
    requests: list[bytes] = field(default_factory=list[bytes])
    """Of metrics."""
    traces: list[bytes] = field(default_factory=list[bytes])
    paths: list[str] = field(default_factory=list[str])
    """Of HTTP, where they went."""
    headers: list[Mapping[str, str]] = field(default_factory=list[Mapping[str, str]])
    arrived: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    """Set unless it is to keep silent."""

    def spans(self) -> dict[str, list[Any]]:
        """The spans of all requests by the name of their service."""
        found: dict[str, list[Any]] = {}
        for body in self.traces:
            request = trace_messages.ExportTraceServiceRequest.FromString(body)
            for each in request.resource_spans:
                named = {one.key: one.value.string_value for one in each.resource.attributes}
                kept = found.setdefault(named["service.name"], [])
                kept.extend(span for scope in each.scope_spans for span in scope.spans)
        return found

    def status(self, body: bytes) -> int:
        return self.answer(body) if callable(self.answer) else self.answer

    def metrics(self) -> Iterator[tuple[dict[str, str], list[Any]]]:
        """What it was sent of each resource: its attributes that are texts, and its metrics."""
        for body in self.requests:
            for each in messages.ExportMetricsServiceRequest.FromString(body).resource_metrics:
                named = {one.key: one.value.string_value for one in each.resource.attributes}
                yield named, [metric for scope in each.scope_metrics for metric in scope.metrics]

    def take(self, body: bytes, headers: Mapping[str, str], *, traces: bool = False) -> None:
        (self.traces if traces else self.requests).append(body)
        self.headers.append(headers)
        self.arrived.set()
        assert self.release.wait(30)


@contextmanager
def http(
    answer: int | Callable[[bytes], int] = 200,
    authority: Path | None = None,
    clients: bool = False,
    port: int = 0,
) -> Iterator[Backend]:
    """One of HTTP; with `authority`, where its root is written, one of TLS."""
    backend = Backend(answer)
    backend.release.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            backend.paths.append(self.path)
            packed = self.headers.get("content-encoding") == "gzip"
            whole = gzip.decompress(body) if packed else body
            backend.take(whole, dict(self.headers), traces=self.path.endswith("/v1/traces"))
            self.send_response(backend.status(whole))
            self.send_header("content-length", "0")
            self.send_header("location", "/elsewhere")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        if authority is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            ca = trustme.CA()
            ca.issue_cert("127.0.0.1").configure_cert(context)
            ca.cert_pem.write_to_path(authority)
            ours = ca.issue_cert("client")
            ours.private_key_pem.write_to_path(authority.with_name("key.pem"))
            ours.cert_chain_pems[0].write_to_path(authority.with_name("cert.pem"))
            if clients:
                ca.configure_trust(context)
                context.verify_mode = ssl.CERT_REQUIRED
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        server.daemon_threads = True
        server.block_on_close = False
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        backend.port = server.server_port
        yield backend
        backend.release.set()
        server.shutdown()


@contextmanager
def rpc(
    answer: str = "OK", authority: Path | None = None, metrics: bool = True
) -> Iterator[Backend]:
    """One of gRPC; `metrics` says whether it has the service of metrics at all."""
    backend = Backend(answer)
    backend.release.set()

    class Servicer(services.MetricsServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
            backend.take(request.SerializeToString(), dict(context.invocation_metadata()))
            if backend.answer != "OK":
                context.abort(grpc.StatusCode[backend.answer], "secret words of the backend")
            return messages.ExportMetricsServiceResponse()

    class Tracer(trace_services.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
            metadata = dict(context.invocation_metadata())
            backend.take(request.SerializeToString(), metadata, traces=True)
            if backend.answer != "OK":
                context.abort(grpc.StatusCode[backend.answer], "secret words of the backend")
            return trace_messages.ExportTraceServiceResponse()

    server = grpc.server(ThreadPoolExecutor(4))
    trace_services.add_TraceServiceServicer_to_server(Tracer(), server)
    if metrics:
        services.add_MetricsServiceServicer_to_server(Servicer(), server)
    if authority is None:
        backend.port = server.add_insecure_port("127.0.0.1:0")
    else:
        ca = trustme.CA()
        own = ca.issue_cert("127.0.0.1")
        ca.cert_pem.write_to_path(authority)
        pair = (own.private_key_pem.bytes(), own.cert_chain_pems[0].bytes())
        credentials = grpc.ssl_server_credentials([pair])
        backend.port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield backend
    backend.release.set()
    server.stop(None).wait()
