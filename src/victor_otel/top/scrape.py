"""Reads a page of /metrics."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPSHandler, OpenerDirector, ProxyHandler, Request, build_opener

from prometheus_client.parser import text_string_to_metric_families

from victor_otel.numbers import Series, series_of

_TIMEOUT = 5.0
_UNAUTHORIZED = 401


class ScrapeError(Exception):
    """Why there are no numbers, and what to do."""


def address(given: str) -> str:
    """The URL that is meant by `9091`, `host:9091`, or a URL with or without `/metrics`."""
    if given.isdecimal():
        given = f"127.0.0.1:{given}"
    if "//" not in given:
        given = f"http://{given}"
    parts = urlsplit(given)
    return parts._replace(path=parts.path if parts.path not in {"", "/"} else "/metrics").geturl()


@dataclass(frozen=True, kw_only=True)
class Scraper:
    """Reads pages, of which some want TLS (`certificates`) and a password (`password_file`)."""

    certificates: Path | None = None
    user: str = ""
    password_file: Path | None = None

    def read(self, url: str) -> Series:
        """What the page says now.

        Raises:
            ScrapeError: there is no such page, or a file of ours cannot be read.
        """
        request = Request(url, headers=self._headers())  # noqa: S310
        try:
            with self._opener.open(request, timeout=_TIMEOUT) as response:
                text = response.read().decode()
            found = series_of(text_string_to_metric_families(text))
        except HTTPError as error:
            wants = "; it wants --user and --password-file" * (error.code == _UNAUTHORIZED)
            raise ScrapeError(f"{url} answers {error.code} {error.reason}{wants}") from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise ScrapeError(
                f"{url} does not answer: {getattr(reason, 'strerror', None) or reason}. Victor "
                "serves it with VICTOR_PROMETHEUS_ENABLED=true as soon as it works"
            ) from None
        except ValueError:
            raise ScrapeError(f"{url} is no page of Prometheus metrics") from None
        if not any(name.startswith("victor_") for name, _ in found):
            raise ScrapeError(f"{url} has no metric of Victor's")
        return found

    def read_all(self, urls: Iterable[str]) -> tuple[dict[str, Series], list[str]]:
        """What those pages say that are there, and what is wrong with the others."""
        pages: dict[str, Series] = {}
        problems: list[str] = []
        for url in urls:
            try:
                pages[url] = self.read(url)
            except ScrapeError as error:
                problems.append(str(error))
        return pages, problems

    def _headers(self) -> dict[str, str]:
        if not self.user:
            return {}
        try:
            password = self.password_file.read_text("utf-8").strip() if self.password_file else ""
        except OSError as error:
            raise ScrapeError(f"{self.password_file}: {error.strerror}") from None
        pair = base64.b64encode(f"{self.user}:{password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}

    @cached_property
    def _opener(self) -> OpenerDirector:
        try:
            context = ssl.create_default_context(cafile=self.certificates)
        except OSError as error:
            raise ScrapeError(f"{self.certificates}: {error.strerror or error}") from None
        # Straight: pages are on this machine, or in this cluster.
        return build_opener(ProxyHandler({}), HTTPSHandler(context=context))
