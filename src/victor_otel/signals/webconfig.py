"""TLS and passwords of the endpoint, from a file in Prometheus's own web configuration format.

What of that format is not understood is refused by its name: a setting that is read over would be
protection that nobody has. https://prometheus.io/docs/prometheus/latest/configuration/https/
"""

from __future__ import annotations

import base64
import binascii
import hmac
import importlib.util
import ipaddress
import logging
import re
import secrets
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, cast

logger = logging.getLogger("victor_otel")

INSTALL = "pip install bcrypt pyyaml"

REALM = "victor-otel"
"""What a request without the right password is told, and how `doctor` knows us."""

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_CLIENTS = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_CIPHERS = {
    f"TLS_ECDHE_{key}_WITH_{suite}": f"ECDHE-{key}-{openssl}"
    for key in ("ECDSA", "RSA")
    for suite, openssl in (
        ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
        ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
    )
}
"""Names of TLS 1.2, as Go writes them and as OpenSSL does. Those of TLS 1.3 are no choice."""

_BCRYPT = re.compile(r"\$2[abxy]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}")
_BCRYPT_READS = 72
"""Bytes of a password that bcrypt looks at."""


class WebConfigError(ValueError):
    """What is wrong with the file, by the name of its key, and what to do."""


@dataclass(frozen=True, kw_only=True)
class WebConfig:
    """The file, understood: `tls` and `users` (bcrypt hashes by name), or one of them."""

    tls: ssl.SSLContext | None
    users: Mapping[str, bytes]
    certificate: Path | None = None
    files: Mapping[Path, object]
    """What it was made of, by how each looked before it was read."""

    @property
    def demands_certificates(self) -> bool:
        return self.tls is not None and self.tls.verify_mode is ssl.CERT_REQUIRED

    @property
    def authenticates(self) -> bool:
        return bool(self.users) or self.demands_certificates


def load(path: Path) -> WebConfig:
    """Reads the file and what it names.

    Raises:
        WebConfigError: unless all of it is understood and fits together.
    """
    files = {path: _look(path)}
    try:
        top = _Keys(path, "", _yaml(path))
        tls = top.section("tls_server_config")
        users = top.section("basic_auth_users")
        http = top.section("http_server_config")
        top.nothing_else()
        if http is not None:
            # HTTP/2 is agreed on by client and server: a server without it suits either value.
            http.take("http2", _boolean)
            http.nothing_else()
        if tls is None and users is None:
            _fail("it has neither tls_server_config nor basic_auth_users: add one of them")
        if users is not None and not users.values:
            _fail("basic_auth_users names nobody: add a name and a hash, or remove it")
        context, certificate = (None, None) if tls is None else _context(tls, files)
        return WebConfig(
            tls=context,
            users={name: users.required(name, _hash) for name in users.values} if users else {},
            certificate=certificate,
            files=files,
        )
    except WebConfigError as error:
        raise WebConfigError(f"{path}: {error}") from None


def exposure(host: str, web: WebConfig | None) -> str:
    """What is missing where others than this machine may read; empty if nothing is.

    Raises:
        OSError: for a host that is none.
    """
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    address = str(found[0][4][0]).partition("%")[0]
    if ipaddress.ip_address(address).is_loopback:
        return ""
    lacks = (
        "TLS" if web is None or web.tls is None else "",
        "authentication" if web is None or not web.authenticates else "",
    )
    return " and ".join(filter(None, lacks))


class Watched:
    """A file whose changes count at once, as certificates that are renewed.

    One that is no longer understood is logged once and changes nothing: what counted before goes
    on to count.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._config = load(path)
        self._problem = ""

    def current(self) -> WebConfig:
        """What counts now."""
        if any(_look(file) != seen for file, seen in self._config.files.items()):
            try:
                self._config, self._problem = self._changed(), ""
            except WebConfigError as error:
                if str(error) != self._problem:
                    logger.error("victor-otel: %s. What counted before still counts.", error)
                self._problem = str(error)
        return self._config

    def _changed(self) -> WebConfig:
        config = load(self._path)
        if (config.tls is None) != (self._config.tls is None):
            raise WebConfigError(
                f"{self._path}: tls_server_config came or went; restart Victor for that"
            )
        return config


def _look(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


class Passwords:
    """Whose password was right before: bcrypt is slow on purpose, and Prometheus comes often."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._right: dict[str, bytes] = {}

    def check(
        self, users: Mapping[str, bytes], authorization: str | None
    ) -> bool | Callable[[], bool]:
        """Whether somebody may read; if only bcrypt knows, the function that asks it."""
        given = _basic(authorization)
        if given is None:
            return False
        name, password = given
        # Nobody learns by the time that it takes which names there are.
        hashed = users.get(name) or next(iter(users.values()))
        seal = hmac.digest(self._key, hashed + password, "sha256")
        if name in users and hmac.compare_digest(self._right.get(name, b""), seal):
            return True

        def ask() -> bool:
            import bcrypt

            right = bcrypt.checkpw(password[:_BCRYPT_READS], hashed) and name in users
            if right:
                self._right[name] = seal
            return right

        return ask


def _basic(authorization: str | None) -> tuple[str, bytes] | None:
    """Name and password of an Authorization header, which says them in base64."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (name.decode(), password) if colon and b"\0" not in password else None
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None


@dataclass
class _Keys:
    """A mapping of the file; `name` is its key, and precedes those within."""

    path: Path
    name: str
    values: dict[str, Any]
    _known: set[str] = field(default_factory=set[str])

    def section(self, key: str) -> _Keys | None:
        """A mapping within; one that is there and empty is no wish to do without."""
        values = self.take(key, _mapping)
        return _Keys(self.path, f"{key}.", values or {}) if key in self.values else None

    def take(self, key: str, understand: Callable[[Any], Any]) -> Any:
        """What is understood of a key, or None if it is not there."""
        self._known.add(key)
        if self.values.get(key) is None:
            return None
        return self.required(key, understand)

    def required(self, key: str, understand: Callable[[Any], Any]) -> Any:
        self._known.add(key)
        if self.values.get(key) is None:
            raise WebConfigError(f"{self.name}{key} is missing")
        try:
            return understand(self.values[key])
        except ValueError as error:
            raise WebConfigError(f"{self.name}{key} {error}") from None

    def file(self, value: Any) -> Path:
        path = self.path.parent / _text(value)
        try:
            with path.open("rb"):
                return path
        except OSError as error:
            raise ValueError(f"cannot be read: {path}: {error.strerror}") from None

    def nothing_else(self) -> None:
        for key in self.values:
            if key not in self._known:
                known = ", ".join(sorted(self._known))
                raise WebConfigError(
                    f"{self.name}{key} is not understood by victor-otel: remove it (known are "
                    f"{known})"
                )


def _context(tls: _Keys, files: dict[Path, object]) -> tuple[ssl.SSLContext, Path]:
    """What the TLS section says, and the certificate; notes the files that it names."""
    certificate, key = tls.required("cert_file", tls.file), tls.required("key_file", tls.file)
    authority = tls.take("client_ca_file", tls.file)
    files |= {file: _look(file) for file in (certificate, key, authority) if file is not None}
    clients = tls.take("client_auth_type", _one_of(_CLIENTS)) or ssl.CERT_NONE
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = tls.take("min_version", _one_of(_VERSIONS)) or _VERSIONS["TLS12"]
    context.maximum_version = tls.take("max_version", _one_of(_VERSIONS)) or _VERSIONS["TLS13"]
    ciphers = tls.take("cipher_suites", _ciphers)
    if tls.take("prefer_server_cipher_suites", _boolean) is False:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    tls.nothing_else()
    if context.minimum_version > context.maximum_version:
        raise WebConfigError("tls_server_config.min_version is above max_version")
    if (authority is None) != (clients is ssl.CERT_NONE):
        raise WebConfigError(
            "tls_server_config.client_ca_file and client_auth_type: RequireAndVerifyClientCert "
            "belong together; set both or none"
        )
    if ciphers:
        context.set_ciphers(ciphers)
    try:
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except (ssl.SSLError, ValueError) as error:
        raise WebConfigError(
            f"tls_server_config.key_file is no key, without a passphrase, of the certificate in "
            f"cert_file ({getattr(error, 'reason', None) or error}); both are PEM"
        ) from None
    if authority is not None:
        try:
            context.load_verify_locations(authority)
        except ssl.SSLError as error:
            raise WebConfigError(
                f"tls_server_config.client_ca_file holds no certificate ({error.reason}); it is PEM"
            ) from None
        context.verify_mode = clients
    return context, certificate


def _fail(problem: str) -> NoReturn:
    raise WebConfigError(problem)


def _no_passphrase() -> str:
    # Without this, OpenSSL would ask whoever sits at the terminal.
    raise ValueError("it has a passphrase")


def _yaml(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError:
        raise WebConfigError(f"to read it, {INSTALL}") from None
    try:
        return _mapping(yaml.safe_load(path.read_bytes()) or {})
    except OSError as error:
        raise WebConfigError(f"cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, RecursionError) as error:
        # Its text quotes the file, where secrets are.
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        raise WebConfigError(
            "is no YAML" + (f"; look at line {line + 1}" if line is not None else "")
        ) from None
    except ValueError as error:
        raise WebConfigError(str(error)) from None


# The text of what each raises follows the name of a key.


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise WebConfigError("is no mapping of keys to values")
    return {str(key): each for key, each in cast("dict[Any, Any]", value).items()}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise WebConfigError("is no text; put it in quotes")
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise WebConfigError("is neither true nor false")
    return value


def _one_of(known: Mapping[str, Any]) -> Callable[[Any], Any]:
    def understand(value: Any) -> Any:
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"is none of {', '.join(known)}")
        return known[value]

    return understand


def _ciphers(value: Any) -> str:
    if not isinstance(value, list):
        raise WebConfigError("is no list")
    return ":".join(map(_one_of(_CIPHERS), cast("list[Any]", value)))


def _hash(value: Any) -> bytes:
    if not _BCRYPT.fullmatch(_text(value)):
        raise WebConfigError(
            "is no bcrypt hash, and a password must not stand here; make a hash with "
            "`htpasswd -nBC 10 NAME`"
        )
    if importlib.util.find_spec("bcrypt") is None:
        raise WebConfigError(f"needs bcrypt: {INSTALL}")
    return value.encode()
