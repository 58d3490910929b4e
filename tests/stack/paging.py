"""The shipped Alertmanager with all of its receivers on this machine."""

from __future__ import annotations

import base64
import email
import email.policy
import json
import re
import shutil
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseServer, StreamRequestHandler, ThreadingTCPServer
from typing import Any
from urllib.request import Request

from tests.stack.processes import DIRECT, HOST, Alertmanager, alertmanager, answer
from tools.paths import DEPLOY

PASSWORD = "moss"
ROUTING_KEY = "fern"


@dataclass(frozen=True)
class Message:
    """What `receiver` got: JSON, or the headers and text of a mail."""

    receiver: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Paging:
    """A running Alertmanager and what its receivers got so far, in order."""

    alertmanager: Alertmanager
    messages: Sequence[Message]

    @property
    def url(self) -> str:
        return self.alertmanager.url

    def to(self, receiver: str) -> list[Mapping[str, Any]]:
        return [each.body for each in self.messages if each.receiver == receiver]

    def alerts(self) -> list[dict[str, Any]]:
        return answer(f"{self.url}/api/v2/alerts")

    def post(self, *alerts: Mapping[str, Any]) -> None:
        """Tells Alertmanager of alerts, as Prometheus does."""
        request = Request(
            f"{self.url}/api/v2/alerts",
            json.dumps(alerts).encode(),
            {"Content-Type": "application/json"},
        )
        with DIRECT.open(request, timeout=5):
            pass


def shipped(folder: Path) -> Path:
    """The shipped configuration, copied without the secrets that somebody may have put there."""
    secrets = shutil.ignore_patterns("*_url", "*_key", "*_password")
    shutil.copytree(DEPLOY / "alertmanager", folder, dirs_exist_ok=True, ignore=secrets)
    return folder / "alertmanager.yml"


@contextmanager
def paging(folder: Path, channel: str = "slack") -> Generator[Paging]:
    """Run Alertmanager on the shipped files, with secrets for this machine, in `folder`.

    Messages go out after a second instead of half a minute, and what is said again every five
    minutes every second; `channel` is the receiver that the routes name instead of slack.
    """
    messages: list[Message] = []
    with ExitStack() as stack:
        http = stack.enter_context(serving(ThreadingHTTPServer((HOST, 0), listener(messages))))
        smtp = stack.enter_context(serving(ThreadingTCPServer((HOST, 0), _mailbox(messages))))
        path = shipped(folder)
        for name in ("slack", "webhook", "dead_mans_switch"):
            receiver = name.replace("_", "-")
            (folder / "secrets" / f"{name}_url").write_text(f"http://{HOST}:{http}/{receiver}\n")
        (folder / "secrets" / "pagerduty_key").write_text(f"{ROUTING_KEY}\n")
        (folder / "secrets" / "smtp_password").write_text(f"{PASSWORD}\n")
        text = path.read_text(encoding="utf-8")
        for pattern, replacement in {
            r"^global:$": f"global:\n  smtp_require_tls: false\n"
            f"  pagerduty_url: http://{HOST}:{http}/pagerduty",
            r"(?<=smtp_smarthost: ).*": f"{HOST}:{smtp}",
            r"(?<=group_wait: ).*": "1s",
            r"(?<=group_interval: ).*": "1s",
            r"(?<=repeat_interval: )5m$": "1s",
            r"(?<=  receiver: )slack$": channel,
        }.items():
            text, found = re.subn(pattern, replacement, text, flags=re.MULTILINE)
            assert found, pattern
        path.write_text(text, encoding="utf-8")
        running = stack.enter_context(alertmanager(path))
        yield Paging(running, messages)


@contextmanager
def serving(server: ThreadingHTTPServer | ThreadingTCPServer) -> Generator[int]:
    server.daemon_threads = True
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            BaseServer.shutdown(server)


def listener(messages: list[Message]) -> type[BaseHTTPRequestHandler]:
    """The path tells the receiver; "ok" is what Slack answers."""

    class Listener(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Silent."""

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            messages.append(Message(self.path.strip("/"), body))
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

    return Listener


def _mailbox(messages: list[Message]) -> type[StreamRequestHandler]:
    """As much of SMTP as Alertmanager speaks; who does not know the password is refused."""

    class Mailbox(StreamRequestHandler):
        def handle(self) -> None:
            self.say("220 ready")
            for line in self.rfile:
                verb, _, rest = line.decode().strip().partition(" ")
                if verb == "EHLO":
                    self.say("250-here", "250 AUTH PLAIN")
                elif verb == "AUTH":
                    known = base64.b64decode(rest.split()[1]).endswith(f"\0{PASSWORD}".encode())
                    self.say("235 welcome" if known else "535 no")
                elif verb == "DATA":
                    self.say("354 go on")
                    data = b"".join(iter(self.rfile.readline, b".\r\n"))
                    messages.append(Message("email", _mail(data)))
                    self.say("250 taken")
                elif verb == "QUIT":
                    return self.say("221 bye")
                else:
                    self.say("250 ok")
            return None

        def say(self, *lines: str) -> None:
            self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())

    return Mailbox


def _mail(data: bytes) -> Mapping[str, Any]:
    message = email.message_from_bytes(data, policy=email.policy.default)
    (part,) = message.iter_parts()
    text = part.get_content().replace("\r\n", "\n")
    return {"to": message["To"], "subject": message["Subject"], "text": text}
