"""The HTTP API from a command line: one request at a time, to the first member that answers."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from core_py.errors import PdError, RetryClass
from core_py.runtime import tls

PREFIX = "/pd/api/v1"
TIMEOUT_S = 60.0
MAX_ANSWER_BYTES = 1 << 30
NO_HTTP = "not HTTP; give the URL of --status-addr, or start pd-py with --shared-port"


class Refused(PdError):
    """The server answered with an error."""

    code = "PD:Ctl:Refused"
    retry = RetryClass.NEVER


class Unreachable(PdError):
    """No member answered."""

    code = "PD:Ctl:Unreachable"


class BadArgument(PdError):
    """What was typed makes no sense."""

    code = "PD:Ctl:BadArgument"
    retry = RetryClass.NEVER


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files; empty names are not given."""

    ca: str = ""
    certificate: str = ""
    key: str = ""

    def context(self) -> ssl.SSLContext:
        """For connections. Raises ConfigError for files that cannot be used."""
        return tls.client_context(self.ca, self.certificate, self.key)


class PdHttp:
    """Requests to the members at `urls`, tried in their order."""

    def __init__(self, urls: Sequence[str], files: TlsFiles) -> None:
        if not urls:
            raise BadArgument("--pd names no URL")
        self._urls = [url if "://" in url else f"http://{url}" for url in urls]
        self._files = files
        for url in self._urls:
            if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
                raise BadArgument(f"{url} is not an http:// or https:// URL")

    def request(self, method: str, path: str, body: Any = None, *, has_body: bool = False) -> Any:
        """The JSON answer (or text, where the server sends none) to a request below the API's prefix.

        Raises Refused with the server's text, Unreachable.
        """
        data = json.dumps(body).encode() if has_body else None
        failures = []
        for url in self._urls:
            try:
                status, answer = self._once(url, method, PREFIX + path, data)
            except OSError as error:
                failures.append(f"{url}: {error}")
                continue
            except http.client.HTTPException:
                failures.append(f"{url}: {NO_HTTP}")
                continue
            return _value(status, answer)
        raise Unreachable(f"no PD answers: {'; '.join(failures)}")

    def _once(self, url: str, method: str, path: str, data: bytes | None) -> tuple[int, bytes]:
        parts = urlsplit(url)
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(
                parts.hostname or "", parts.port, timeout=TIMEOUT_S, context=self._files.context()
            )
        else:
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
        try:
            headers = {} if data is None else {"Content-Type": "application/json"}
            connection.request(method, path, body=data, headers=headers)
            response = connection.getresponse()
            answer = response.read(MAX_ANSWER_BYTES)
        finally:
            connection.close()
        return response.status, answer


def _value(status: int, answer: bytes) -> Any:
    text = answer.decode("utf-8", "replace").strip()
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if status < 300:
        return value
    if isinstance(value, dict) and "msg" in value:
        value = value["msg"]
    raise Refused(f"[{status}] {value if isinstance(value, str) else json.dumps(value)}")
