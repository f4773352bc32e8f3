"""Sends a request on to another member and its answer back, piece by piece."""

from __future__ import annotations

import io
import ssl

import aiohttp
from aiohttp import web
from yarl import URL

from core_py.runtime.log import get_logger
from pd_py.api import errors
from pd_py.api.middleware import REDIRECTOR, Unreachable
from pd_py.api.requests import plain

CONNECT_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 60.0
PIECE_BYTES = 1 << 16
# What belongs to one connection and not to the message, or is set anew.
_NOT_PASSED_ON = frozenset(
    {
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "host",
        "content-length",
        "content-encoding",
    }
)


class HttpForwarder:
    """`pd_py.api.middleware.Forwarder` over HTTP. Needs `close`."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, request: web.Request, urls: tuple[str, ...], name: str) -> web.StreamResponse:
        """See the port."""
        body = await request.read()
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _NOT_PASSED_ON}
        headers[REDIRECTOR] = name
        if request.remote and "X-Forwarded-For" not in headers:
            headers["X-Forwarded-For"] = request.remote
        failures = []
        for url in urls:
            try:
                return await self._once(request, url.rstrip("/"), headers, body)
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
                failures.append(f"{url}: {error}")
            except (aiohttp.ClientConnectionError, TimeoutError) as error:
                # It may have been done: to send it once more could do it twice.
                get_logger().warning("the leader did not answer an HTTP request", url=url, error=str(error))
                return plain(errors.REDIRECT_FAILED, 500)
        raise Unreachable("; ".join(failures))

    async def _once(self, request: web.Request, url: str, headers: dict[str, str], body: bytes) -> web.StreamResponse:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S, sock_read=ANSWER_TIMEOUT_S)
            self._session = aiohttp.ClientSession(
                timeout=timeout, connector=aiohttp.TCPConnector(ssl=self._tls if self._tls is not None else True)
            )
        target = URL(url + request.raw_path, encoded=True)
        async with self._session.request(
            request.method, target, headers=headers, data=io.BytesIO(body) if body else None, allow_redirects=False
        ) as found:
            response = web.StreamResponse(status=found.status)
            for key, value in found.headers.items():
                if key.lower() not in _NOT_PASSED_ON:
                    response.headers.add(key, value)
            await response.prepare(request)
            try:
                async for piece in found.content.iter_chunked(PIECE_BYTES):
                    await response.write(piece)
            except (aiohttp.ClientError, TimeoutError) as error:
                # Half of an answer is out: only the end of the connection can tell the caller.
                raise ConnectionResetError(f"the leader broke off its answer: {error}") from error
            await response.write_eof()
            return response

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()
