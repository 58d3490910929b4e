"""TLS and passwords of the endpoint: who may read it, and that a mistake never opens it."""

from __future__ import annotations

import base64
import ssl
import threading
import urllib.error
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import trustme
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.processes import AGENT, run
from tests.kit.web_config import PASSWORD, Folder, hashed
from tests.reliability.scrapers import GET, crowd, serving, threads
from tests.reliability.trials import Trials
from victor_otel.engine.health import Health
from victor_otel.signals import pipeline, webconfig
from victor_otel.signals.endpoint import CONNECTIONS
from victor_otel.signals.webconfig import exposure

SLOW = 11
"""A cost of bcrypt."""


def basic(password: str = PASSWORD, name: str = "prometheus") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def folder(tmp_path: Path, authority: trustme.CA) -> Folder:
    return Folder(tmp_path, authority)


def status(scrape: Callable[[], bytes]) -> int:
    with pytest.raises(urllib.error.HTTPError) as refused:
        scrape()
    return refused.value.code


# TLS


def test_tls_is_what_the_address_says_and_a_client_can_trust(folder: Folder) -> None:
    with serving(folder.write()) as served:
        assert served.endpoint.url.startswith("https://127.0.0.1:")
        assert served.scrape(folder.trusting()) == served.page
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            served.scrape(ssl.create_default_context())


def test_half_open_and_garbled_handshakes_stop_nobody(folder: Folder, trials: Trials) -> None:
    count = trials.times(75, 3000)
    with serving(folder.write()) as served:
        for sent in (b"", GET, b"\x16\x03\x01", b"\x16\x03\x01\x00\x05hello" + b"\0" * 100_000):
            with crowd(served, count, sent):
                assert served.scrape(folder.trusting()) == served.page
                assert len(served.endpoint._connections) <= CONNECTIONS
        assert served.health.errors == {}
    trials.row("half-open and garbled TLS handshakes", times=4 * count, seen="a good one is served")


@pytest.mark.parametrize(
    ("kind", "without", "stranger"),
    [("RequireAndVerifyClientCert", False, False), ("VerifyClientCertIfGiven", True, False)],
)
def test_certificates_of_clients(
    folder: Folder, authority: trustme.CA, kind: str, without: bool, stranger: bool
) -> None:
    config = folder.write(client_auth_type=kind, client_ca_file="ca.pem")
    with serving(config) as served:

        def served_to(client: trustme.CA | None) -> bool:
            try:
                return served.scrape(folder.trusting(client)) == served.page
            except (OSError, ssl.SSLError):
                return False

        assert served_to(authority)
        assert served_to(None) is without
        assert served_to(trustme.CA()) is stranger


def test_versions_and_ciphers_are_those_of_the_file(folder: Folder) -> None:
    cipher = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
    config = folder.write(max_version="TLS12", cipher_suites=[cipher])
    with (
        serving(config) as served,
        served.connect() as connection,
        folder.trusting().wrap_socket(connection, server_hostname="127.0.0.1") as secure,
    ):
        assert secure.cipher() == ("ECDHE-ECDSA-AES256-GCM-SHA384", "TLSv1.2", 256)
    folder.write(min_version="TLS13")
    with serving(config) as served:
        context = folder.trusting()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(urllib.error.URLError):
            served.scrape(context)


def test_a_renewed_certificate_counts_at_once(folder: Folder) -> None:
    with serving(folder.write()) as served:
        before = folder.trusting()
        assert served.scrape(before) == served.page
        other = trustme.CA()
        folder.renew(other)
        other.cert_pem.write_to_path(str(folder.path / "ca.pem"))
        assert served.scrape(folder.trusting()) == served.page
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            served.scrape(before)


def test_a_certificate_without_its_key_yet_changes_nothing_until_the_key_is_there(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(folder.write()) as served:
        key = (folder.path / "tls.key").read_bytes()
        folder.renew(folder.authority)
        renewed = (folder.path / "tls.key").read_bytes()
        (folder.path / "tls.key").write_bytes(key)
        for _ in range(3):
            assert served.scrape(folder.trusting()) == served.page
        assert caplog.text.count("What counted before still counts") == 1
        (folder.path / "tls.key").write_bytes(renewed)
        assert served.scrape(folder.trusting()) == served.page
        assert served.endpoint._web is not None
        assert served.endpoint._web._problem == ""


def test_a_certificate_that_is_named_before_it_is_there_counts_once_it_is(folder: Folder) -> None:
    with serving(folder.write()) as served:
        (folder.path / "tls.crt").rename(folder.path / "old.crt")
        folder.write(cert_file="new.crt")
        assert served.scrape(folder.trusting()) == served.page
        (folder.path / "old.crt").rename(folder.path / "new.crt")
        assert served.scrape(folder.trusting()) == served.page
        assert served.endpoint._web is not None
        assert served.endpoint._web.current().certificate == folder.path / "new.crt"


# Passwords


@pytest.mark.parametrize("tls", [True, False])
def test_only_who_has_the_password_reads(folder: Folder, tls: bool) -> None:
    with serving(folder.write({"prometheus": hashed()}, tls=tls)) as served:
        trusting = folder.trusting() if tls else None
        for _ in range(2):
            assert served.scrape(trusting, **basic()) == served.page
        for wrong in (
            {},
            basic("wrong"),
            basic(""),
            basic(name="nobody"),
            basic(name=""),
            basic(PASSWORD + "\0"),
            {"Authorization": "Bearer " + PASSWORD},
            {"Authorization": "Basic"},
            {"Authorization": "Basic ====="},
            {"Authorization": "Basic " + base64.b64encode(b"\xff\xfe:a").decode()},
            {"Authorization": "Basic " + base64.b64encode(b"prometheus").decode()},
        ):
            assert status(lambda given=wrong: served.scrape(trusting, **given)) == 401, wrong
        assert served.health.errors == {}


def test_a_refusal_says_how_to_ask_and_shows_nothing(folder: Folder) -> None:
    with serving(folder.write({"prometheus": hashed()}, tls=False)) as served:
        answer = served.ask(GET)
        assert b'WWW-Authenticate: Basic realm="victor-otel"' in answer
        assert b"acme" not in answer


def test_hashes_of_htpasswd_are_understood(folder: Folder) -> None:
    made = hashed().replace("$2b$", "$2y$")
    with serving(folder.write({"prometheus": made}, tls=False)) as served:
        assert served.scrape(None, **basic()) == served.page


def test_a_changed_password_counts_at_once(folder: Folder) -> None:
    with serving(folder.write({"prometheus": hashed()}, tls=False)) as served:
        assert served.scrape(None, **basic()) == served.page
        folder.write({"prometheus": hashed("another")}, tls=False)
        assert status(lambda: served.scrape(None, **basic())) == 401
        assert served.scrape(None, **basic("another")) == served.page


def test_a_file_that_is_broken_later_opens_nothing(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(folder.write({"prometheus": hashed()})) as served:
        for broken in ("", "basic_auth_users: {}", "}{", "basic_auth_users: {a: b}"):
            folder.file.write_text(broken)
            assert status(lambda: served.scrape(folder.trusting())) == 401
            assert served.scrape(folder.trusting(), **basic()) == served.page
        folder.write({"prometheus": hashed()}, tls=False)
        assert served.scrape(folder.trusting(), **basic()) == served.page
        assert "tls_server_config came or went" in caplog.text
        folder.file.unlink()
        assert served.scrape(folder.trusting(), **basic()) == served.page


def test_wrong_passwords_are_checked_one_at_a_time_and_stop_nobody_whose_password_is_known(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, trials: Trials
) -> None:
    count = trials.times(100, 1000)
    at_once: list[int] = []
    inside = threading.Semaphore(0)
    real = bcrypt.checkpw

    def counted(*given: bytes) -> bool:
        inside.release()
        at_once.append(inside._value)
        right = real(*given)
        inside.acquire()
        return right

    monkeypatch.setattr(bcrypt, "checkpw", counted)
    config = folder.write({"prometheus": hashed(cost=SLOW)}, tls=False)
    with serving(config) as served, ThreadPoolExecutor(16) as pool:
        assert served.scrape(None, **basic()) == served.page
        wrong = [
            pool.submit(status, lambda n=n: served.scrape(None, **basic(f"wrong {n}")))
            for n in range(count)
        ]
        for _ in range(10):
            assert served.scrape(None, **basic()) == served.page
        assert {one.result() for one in wrong} <= {401, 503}
        assert served.threads == [
            "victor-otel-endpoint",
            "victor-otel-pages",
            "victor-otel-passwords",
        ]
    assert set(at_once) == {1}
    trials.row(
        "wrong passwords, 16 at once, and a scraper whose password is known",
        times=count,
        seen=f"{len(at_once) - 1} checked by bcrypt, one at a time; the others were sent away",
    )


# Mistakes


def tls(more: str) -> str:
    return f"tls_server_config: {{cert_file: tls.crt, key_file: tls.key, {more}}}"


BCRYPT = hashed()
MISTAKES: dict[str, tuple[str, str]] = {
    "nothing": ("", "neither tls_server_config nor basic_auth_users"),
    "TLS without anything": (
        f"tls_server_config:\nbasic_auth_users: {{a: {BCRYPT}}}",
        "tls_server_config.cert_file is missing",
    ),
    "nobody": (
        "tls_server_config: {cert_file: tls.crt, key_file: tls.key}\nbasic_auth_users:",
        "basic_auth_users names nobody",
    ),
    "no mapping": ("- a", "is no mapping"),
    "no YAML": ("a: [", "is no YAML; look at line"),
    "an unknown key": ("basic_auth: {a: b}", "basic_auth is not understood by victor-otel"),
    "a key of TLS": (
        tls("client_allowed_sans: [a]"),
        "tls_server_config.client_allowed_sans is not understood",
    ),
    "a key of HTTP": (
        f"http_server_config: {{headers: {{a: b}}}}\nbasic_auth_users: {{a: {BCRYPT}}}",
        "http_server_config.headers is not understood",
    ),
    "a rate": (
        f"rate_limit: {{burst: 1}}\nbasic_auth_users: {{a: {BCRYPT}}}",
        "rate_limit is not understood",
    ),
    "a password": (
        f"basic_auth_users: {{prometheus: {PASSWORD}}}",
        "is no bcrypt hash, and a password must not stand here; make a hash with `htpasswd -nBC",
    ),
    "half a hash": (
        f"basic_auth_users: {{prometheus: {BCRYPT[:-1]}}}",
        "basic_auth_users.prometheus is no bcrypt hash",
    ),
    "a number": ("basic_auth_users: {prometheus: 12345}", "basic_auth_users.prometheus is no text"),
    "no password": ("basic_auth_users: {prometheus: }", "basic_auth_users.prometheus is missing"),
    "no key": ("tls_server_config: {cert_file: tls.crt}", "tls_server_config.key_file is missing"),
    "no such file": (
        "tls_server_config: {cert_file: none.crt, key_file: tls.key}",
        "tls_server_config.cert_file cannot be read",
    ),
    "another key": (
        "tls_server_config: {cert_file: tls.crt, key_file: other.key}",
        "tls_server_config.key_file is no key, without a passphrase, of the certificate",
    ),
    "a key with a passphrase": (
        "tls_server_config: {cert_file: tls.crt, key_file: locked.key}",
        "tls_server_config.key_file is no key, without a passphrase, of the certificate",
    ),
    "a certificate that is none": (
        "tls_server_config: {cert_file: web.yml, key_file: tls.key}",
        "of the certificate in cert_file",
    ),
    "clients without an authority": (
        tls("client_auth_type: RequireAndVerifyClientCert"),
        "tls_server_config.client_ca_file and client_auth_type",
    ),
    "an authority without clients": (
        tls("client_ca_file: ca.pem"),
        "tls_server_config.client_ca_file and client_auth_type",
    ),
    "an authority that is none": (
        tls("client_ca_file: web.yml, client_auth_type: RequireAndVerifyClientCert"),
        "tls_server_config.client_ca_file holds no certificate",
    ),
    "clients unverified": (
        tls("client_auth_type: RequireAnyClientCert"),
        "tls_server_config.client_auth_type is none of NoClientCert, ",
    ),
    "an old version": (
        tls("min_version: TLS10"),
        "tls_server_config.min_version is none of TLS12, TLS13",
    ),
    "a list of versions": (
        tls("min_version: [TLS12]"),
        "tls_server_config.min_version is none of TLS12, TLS13",
    ),
    "versions that cross": (
        tls("min_version: TLS13, max_version: TLS12"),
        "tls_server_config.min_version is above max_version",
    ),
    "a weak cipher": (
        tls("cipher_suites: [RC4]"),
        "tls_server_config.cipher_suites is none of TLS_ECDHE_",
    ),
}


@pytest.fixture
def wrong(folder: Folder) -> Folder:
    """With files that do not fit."""
    from cryptography.hazmat.primitives import serialization as form

    other = folder.authority.issue_cert("other").private_key_pem
    other.write_to_path(str(folder.path / "other.key"))
    key = form.load_pem_private_key((folder.path / "tls.key").read_bytes(), None)
    locked = key.private_bytes(
        form.Encoding.PEM, form.PrivateFormat.PKCS8, form.BestAvailableEncryption(b"secret")
    )
    (folder.path / "locked.key").write_bytes(locked)
    return folder


@pytest.fixture
def built(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[Path | str], tuple[pipeline.Pipeline, Health]]]:
    """Builds pipelines as the environment says."""
    made: list[pipeline.Pipeline] = []

    def build(config: Path | str) -> tuple[pipeline.Pipeline, Health]:
        monkeypatch.setenv("VICTOR_PROMETHEUS_ENABLED", "true")
        monkeypatch.setenv("VICTOR_PROMETHEUS_PORT", "0")
        monkeypatch.setenv("VICTOR_PROMETHEUS_WEB_CONFIG_FILE", str(config))
        health = Health()
        made.append(pipeline.connect(health))
        return made[-1], health

    yield build
    for one in made:
        one.recorder._provider.shutdown()
        if one.server is not None:
            one.server.close()


@pytest.mark.parametrize(("text", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_by_name_and_nothing_is_served_openly_instead(
    wrong: Folder, built: Any, caplog: pytest.LogCaptureFixture, text: str, said: str
) -> None:
    wrong.file.write_text(text)
    before = threads()
    connected, health = built(wrong.file)
    assert (connected.owner, connected.endpoint, connected.server) == ("victor-otel", None, None)
    assert health.endpoint_up is False
    (line,) = [one.message for one in caplog.records if "is not served" in one.message]
    assert "VICTOR_PROMETHEUS_WEB_CONFIG_FILE is wrong: " in line
    assert str(wrong.file) in line
    assert said in line
    assert PASSWORD not in caplog.text
    assert threads() == before


@pytest.mark.parametrize("key", ["", "tls_server_config", "basic_auth_users", "http_server_config"])
def test_whatever_the_file_holds_is_understood_or_a_mistake(
    wrong: Folder, trials: Trials, key: str
) -> None:
    count = trials.times(25, 2000)
    leaf = st.none() | st.booleans() | st.integers() | st.dates() | st.text(max_size=9)
    known = ["cert_file", "key_file", "client_ca_file", "client_auth_type", "min_version"]
    name = st.sampled_from([*known, "cipher_suites", "http2", "tls_server_config"]) | leaf
    anything = st.recursive(
        leaf | st.sampled_from(["tls.crt", "tls.key", "ca.pem", "TLS13", BCRYPT]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(name, inner, max_size=4),
    )

    @settings(max_examples=count, deadline=None, database=None)
    @given(anything)
    def read(value: Any) -> None:
        wrong.file.write_text(yaml.safe_dump({key: value} if key else value), encoding="utf-8")
        with suppress(webconfig.WebConfigError):
            webconfig.load(wrong.file)

    read()
    trials.row(f"web configurations with anything in {key or 'them'}", times=count)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\xfd", b"\0", b"[" * 5000, b"a: &a [*a]", b"!!python/x"]
)
def test_what_is_no_configuration_is_a_mistake(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "web.yml").write_bytes(content)
    with pytest.raises(webconfig.WebConfigError):
        webconfig.load(tmp_path / "web.yml")


def test_a_file_that_is_missing_is_a_mistake_as_well(
    tmp_path: Path, built: Any, caplog: pytest.LogCaptureFixture
) -> None:
    connected, health = built(tmp_path / "none.yml")
    assert (connected.endpoint, health.endpoint_up) == (None, False)
    assert f"{tmp_path / 'none.yml'}: cannot be read: No such file or directory" in caplog.text


@pytest.mark.parametrize("module", ["bcrypt", "yaml"])
def test_what_is_not_installed_is_named_with_the_command(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(webconfig.WebConfigError, match="pip install bcrypt pyyaml"):
        webconfig.load(folder.write({"prometheus": hashed()}))


def test_victor_goes_on_without_the_endpoint(tmp_path: Path) -> None:
    done = run(
        AGENT + "work()\nfrom victor_otel.runtime import RUNTIME\n"
        "print(RUNTIME.instrumentation.health.endpoint_up)",
        VICTOR_PROMETHEUS_ENABLED="true",
        VICTOR_PROMETHEUS_PORT="0",
        VICTOR_PROMETHEUS_WEB_CONFIG_FILE=str(tmp_path / "none.yml"),
    )
    assert done.stdout.splitlines()[-1] == "False"
    assert done.stderr.count("is not served, and not openly instead") == 1


# What is said at the start


def test_what_lacks_beyond_loopback_is_said(folder: Folder) -> None:
    both = "TLS and authentication"
    assert [exposure(host, None) for host in ("127.0.0.1", "::1", "127.8.8.8")] == ["", "", ""]
    assert [exposure(host, None) for host in ("0.0.0.0", "::", "10.1.2.3")] == [both] * 3
    users = {"prometheus": hashed()}
    assert exposure("::", webconfig.load(folder.write(users, tls=False))) == "TLS"
    assert exposure("::", webconfig.load(folder.write())) == "authentication"
    assert exposure("::", webconfig.load(folder.write(users))) == ""
    clients = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.pem"}
    assert exposure("::", webconfig.load(folder.write(**clients))) == ""


@pytest.mark.parametrize(("host", "warned"), [("0.0.0.0", 1), ("localhost", 0)])
def test_an_open_endpoint_is_one_warning(
    built: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    host: str,
    warned: int,
) -> None:
    monkeypatch.setenv("VICTOR_PROMETHEUS_HOST", host)
    built("")
    lines = [one.message for one in caplog.records if "is open to other machines" in one.message]
    assert len(lines) == warned
    for line in lines:
        assert line.startswith(
            "victor-otel: /metrics on 0.0.0.0 is open to other machines without TLS and "
            "authentication: whoever reaches it reads it"
        )
        assert "VICTOR_PROMETHEUS_WEB_CONFIG_FILE" in line
