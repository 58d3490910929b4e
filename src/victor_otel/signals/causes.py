"""Why an export fails, in words of ours: texts of errors and of backends may hold secrets."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.client import HTTPException, responses
from types import SimpleNamespace
from typing import Any, cast

from victor_otel.signals.settings import (
    OTEL_CERTIFICATE,
    OTEL_CLIENT_CERTIFICATE,
    OTEL_ENDPOINT,
    OTEL_HEADERS,
    OTEL_PROTOCOL,
    OTEL_TIMEOUT,
    Variable,
)


@dataclass(frozen=True, kw_only=True)
class Cause:
    """What went wrong, what that usually means, and what mends it."""

    what: str = ""
    why: str
    command: str = f"export {OTEL_ENDPOINT.name}=http://HOST:PORT"
    setting: Variable = OTEL_ENDPOINT
    """What decides about it."""
    lost: bool = True
    """Whether the data did not arrive; else nobody knows, since there was no answer."""
    data: bool = False
    """Whether it is the data that is refused, not whoever sends it."""
    absent: bool = False
    """Whether nobody there takes this signal: metrics, or spans."""


_GRPC = f"export {OTEL_PROTOCOL.name}=grpc"
_HTTP = f"export {OTEL_PROTOCOL.name}=http/protobuf {OTEL_ENDPOINT.name}=http://HOST:4318"
_TLS_ADDRESS = f"export {OTEL_ENDPOINT.name}=https://HOST:PORT"

_REFUSED = Cause(
    what="connection refused",
    why="nothing listens there: the Collector does not run, or has another address",
    setting=OTEL_TIMEOUT,
)
TIMED_OUT = Cause(
    what="no answer in time",
    why="the backend is overloaded, or a firewall swallows the connection",
    setting=OTEL_TIMEOUT,
    lost=False,
)
_UNRESOLVED = Cause(
    what="the name of the host is not known",
    why="it is misspelt, or this machine's DNS does not know it",
)
_UNREACHABLE = Cause(
    what="the backend cannot be reached",
    why="there is no way to that address from here",
    setting=OTEL_TIMEOUT,
)
_CLOSED = Cause(
    what="the connection was closed without an answer",
    why="the backend went away, or it wants TLS, or this is a port of gRPC, usually 4317",
    command=f"{_GRPC}  # or {OTEL_ENDPOINT.name}=https://HOST:PORT",
    lost=False,
)
_CLOSED_TO_GRPC = replace(
    _CLOSED, why="the backend went away, or it wants TLS", command=_TLS_ADDRESS
)
_UNTRUSTED = Cause(
    what="TLS: its certificate is not trusted",
    why="the authority that signed it is not known here, or it is another host's",
    command=f"export {OTEL_CERTIFICATE.name}=/path/to/ca.pem",
    setting=OTEL_CERTIFICATE,
)
_NO_FILE = Cause(
    what="TLS: a certificate or key cannot be read",
    why="the file is not there, or is none",
    command=f"export {OTEL_CERTIFICATE.name}=/path/to/ca.pem",
    setting=OTEL_CERTIFICATE,
)
_NO_CLIENT = Cause(
    what="TLS: it wants a client certificate",
    why="it lets in only who shows one that it trusts",
    command=f"export {OTEL_CLIENT_CERTIFICATE.name}=cert.pem OTEL_EXPORTER_OTLP_CLIENT_KEY=key.pem",
    setting=OTEL_CLIENT_CERTIFICATE,
)
_NO_TLS = Cause(
    what="TLS: it speaks none",
    why="the endpoint begins with https, and the backend is http",
)
_TLS = replace(_UNTRUSTED, what="TLS: the handshake failed")
_SPEAKS_NO_HTTP = Cause(
    what="it does not speak HTTP",
    why="this is a port of gRPC, usually 4317; http/protobuf usually has 4318",
    command=_GRPC,
    setting=OTEL_PROTOCOL,
)
_SPEAKS_NO_GRPC = Cause(
    what="it does not speak gRPC",
    why="this is a port of http/protobuf, usually 4318; gRPC usually has 4317",
    command=_HTTP,
    setting=OTEL_PROTOCOL,
)
_REJECTED = Cause(
    why="the backend wants credentials, or others than these",
    command=f"export {OTEL_HEADERS.name}='authorization=Bearer%20TOKEN'",
    setting=OTEL_HEADERS,
)
_WRONG_PATH = Cause(
    why="there is a server, but no OTLP receiver of this signal at this path",
    absent=True,
)
_TOO_LARGE = Cause(
    why="the backend's own limit is below what an export holds",
    command="raise max_request_body_size of the Collector's otlp receiver",
)
_REFUSED_DATA = Cause(
    why="the backend's log says what it does not accept",
    command="docker compose logs collector",
    data=True,
)
_BUSY = Cause(
    why="the backend, or a proxy before it, cannot take it now",
    command="docker compose logs collector",
    setting=OTEL_TIMEOUT,
)
_REDIRECT = Cause(
    why="a redirect is not followed, so that nothing arrives",
    command=_TLS_ADDRESS,
)
_BAD_URL = Cause(
    what="the endpoint is no URL",
    why="it lacks http:// or https://, or holds what a URL must not",
)
_PROXY = Cause(
    what="the proxy cannot be reached",
    why="HTTP_PROXY or HTTPS_PROXY stands between, and does not answer",
    command="export NO_PROXY=HOST",
    setting=Variable(name="NO_PROXY", default="", meaning="hosts that need no proxy"),
)

_STATUSES = {
    **dict.fromkeys((401, 403), _REJECTED),
    **dict.fromkeys((404, 405), _WRONG_PATH),
    413: _TOO_LARGE,
    **dict.fromkeys((429, 502, 503, 504), _BUSY),
}
_CODES = {
    "UNAUTHENTICATED": _REJECTED,
    "PERMISSION_DENIED": _REJECTED,
    "UNIMPLEMENTED": _WRONG_PATH,
    "RESOURCE_EXHAUSTED": _TOO_LARGE,
    "DEADLINE_EXCEEDED": TIMED_OUT,
    "UNAVAILABLE": _BUSY,
}
_SAID_BY_TLS = {
    "CERTIFICATE_VERIFY_FAILED": _UNTRUSTED,
    "WRONG_VERSION_NUMBER": _NO_TLS,
    # Alerts, which are about a certificate of ours.
    "CERTIFICATE": _NO_CLIENT,
    "UNKNOWN_CA": _NO_CLIENT,
}
_KINDS: dict[type[BaseException], Cause] = {
    socket.gaierror: _UNRESOLVED,
    TimeoutError: TIMED_OUT,
    ConnectionRefusedError: _REFUSED,
    ConnectionError: _CLOSED,  # also http.client's RemoteDisconnected
    HTTPException: _SPEAKS_NO_HTTP,
}
_SAID_BY_GRPC = {
    # What gRPC's core says of a connection, in the order in which it is looked for.
    "CERTIFICATE_VERIFY_FAILED": _UNTRUSTED,
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "CERTIFICATE_REQUIRED": _NO_CLIENT,
    "handshake failed": _TLS,
    "Failed parsing HTTP/2": _SPEAKS_NO_GRPC,
    "http1.x": _SPEAKS_NO_GRPC,
    "Connection refused": _REFUSED,
    "errors resolving": _UNRESOLVED,
    "DNS resolution failed": _UNRESOLVED,
    "Socket closed": _CLOSED_TO_GRPC,
    "Connection reset": _CLOSED_TO_GRPC,
    "imed out": TIMED_OUT,
}


def of_status(status: int) -> Cause | None:
    """Why an answer of HTTP is none, or nothing for one that accepts the data."""
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return None
    what = f"{status} {responses.get(status, '')}".rstrip()
    redirected = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST
    return replace(_REDIRECT if redirected else _STATUSES.get(status, _REFUSED_DATA), what=what)


def of_error(error: BaseException) -> Cause:
    """Why a request of HTTP had no answer."""
    errors = list(_chain(error))
    names = {type(one).__name__ for one in errors}
    if "ProxyError" in names:
        return _PROXY
    for one in reversed(errors):  # the innermost says most
        cause = _of_cause(one)
        if cause is not None:
            return cause
    if names & {"InvalidURL", "InvalidSchema", "MissingSchema", "LocationParseError"}:
        return _BAD_URL
    return replace(_UNREACHABLE, what=type(error).__name__)


def _of_cause(error: BaseException) -> Cause | None:
    if isinstance(error, ssl.SSLError):
        reason = str(getattr(error, "reason", ""))
        return next((cause for words, cause in _SAID_BY_TLS.items() if words in reason), _TLS)
    for kind, cause in _KINDS.items():
        if isinstance(error, kind):
            return cause
    return _of_system(error) if isinstance(error, OSError) else None


def _of_system(error: OSError) -> Cause | None:
    """An error of the system itself; libraries derive theirs from it, and say less."""
    if type(error).__module__ != "builtins":
        return TIMED_OUT if "Timeout" in type(error).__name__ else None
    if error.errno is None:
        # requests says so of a file that is missing, without a number.
        return _NO_FILE if "TLS" in str(error) else None
    if isinstance(error, (FileNotFoundError, PermissionError)):
        return _NO_FILE
    return replace(_UNREACHABLE, what=(error.strerror or "").lower())


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that led to it, the outermost first."""
    waiting: list[Any] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]


def of_rpc(error: Any) -> Cause:
    """Why gRPC failed: by the words of its core, else by the code."""
    code = str(error.code().name)
    details = str(error.details() or "")
    said = _SAID_BY_GRPC if code == "UNAVAILABLE" else {}
    found = next((cause for words, cause in said.items() if words in details), None)
    known = found or _CODES.get(code, _REFUSED_DATA)
    return replace(known, what=", ".join(filter(None, (code, known.what))))


@dataclass(kw_only=True)
class Tries:
    """The tries of one export, as they happen: another thread may look on."""

    count: int = 0
    cause: Cause | None = None
    """Why the last one failed, or nothing if it did not, or has not ended."""
    began: float = field(default_factory=time.monotonic)
    known: bool = False
    """Whether the exporter is one whose tries can be seen."""
    ended: threading.Event = field(default_factory=threading.Event)
    """Set when one of them has succeeded or failed."""

    def begin(self) -> None:
        self.count, self.cause, self.began = 0, None, time.monotonic()
        self.ended.clear()

    def end(self, cause: Cause | None) -> None:
        self.cause = cause
        self.ended.set()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


def watch(exporter: Any) -> Tries:
    """Sees each try of an OTLP exporter, which tells its caller only that it failed.

    What is watched is private to the exporters. Where it is not there, nothing is seen, and the
    export itself is as it was.
    """
    tries = Tries()
    client: Any = getattr(exporter, "_client", None)
    if (transport := getattr(client, "_transport", None)) is not None:
        _watch_http(transport, tries)
    elif hasattr(client, "Export") and hasattr(exporter, "_stub"):
        _watch_grpc(exporter, tries)
    return tries


def _watch_http(transport: Any, tries: Tries) -> None:
    request = transport.request

    def watched(*args: Any, **options: Any) -> Any:
        tries.count += 1
        result = request(*args, **options)
        status = cast("int | None", result.status_code)
        tries.end(of_status(status) if status else of_error(result.error))
        return result

    transport.request = watched
    tries.known = True


def _watch_grpc(exporter: Any, tries: Tries) -> None:
    make = exporter._stub  # noqa: SLF001

    def watched(stub: Any) -> Any:
        def export(*args: Any, **options: Any) -> Any:
            tries.count += 1
            try:
                answer = stub.Export(*args, **options)
            except Exception as error:
                tries.end(of_rpc(error) if hasattr(error, "code") else of_error(error))
                raise
            tries.end(None)
            return answer

        return SimpleNamespace(Export=export)

    def connect(channel: Any) -> Any:
        return watched(make(channel))

    # The exporter makes another stub when it connects once more.
    exporter._stub = connect  # noqa: SLF001
    exporter._client = watched(exporter._client)  # noqa: SLF001
    tries.known = True
