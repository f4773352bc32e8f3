"""One port for gRPC and HTTP: who gets which connection, what is refused, and that bytes are carried with back-pressure."""

from __future__ import annotations

import asyncio
import contextlib
import io
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from core_py.errors import ConfigError, RpcError
from core_py.ports import CallContext, Service, methods_of
from core_py.runtime import port_front, tls
from core_py.runtime.byte_pump import BytePump
from core_py.runtime.client_hello import MalformedHello, offered_protocols
from core_py.runtime.grpc_transport import GrpcTransport
from core_py.runtime.port_front import FrontLimits, Speaks, classify, serve_http, serve_shared
from protos.kvproto import pdpb_pb2
from tests.support.certificates import certificate

PD = pdpb_pb2.DESCRIPTOR.services_by_name["PD"]
ALLOC, TSO = methods_of(PD)["AllocID"], methods_of(PD)["Tso"]
SHORT = FrontLimits(connections=4, silence_s=0.2)


async def _alloc(request: Any, _context: CallContext) -> Any:
    return pdpb_pb2.AllocIDResponse(id=request.count)


async def _tso(requests: AsyncIterator[Any], _context: CallContext) -> AsyncIterator[Any]:
    async for request in requests:
        yield pdpb_pb2.TsoResponse(count=request.count)


SERVICES = [Service(PD, {"AllocID": _alloc, "Tso": _tso})]


def _application() -> web.Application:
    app = web.Application(client_max_size=1 << 24)

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    app.router.add_route("*", "/echo", echo)
    return app


def client_hello(protocols: list[str] | None) -> bytes:
    """What a TLS client sends first."""
    context = ssl.create_default_context()
    if protocols is not None:
        context.set_alpn_protocols(protocols)
    out = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="pd")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


@pytest.mark.parametrize(
    ("data", "speaks"),
    [
        (b"P", Speaks.MORE),
        (b"PR", Speaks.MORE),
        (b"PRI * HTTP/2.0\r", Speaks.MORE),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Speaks.GRPC),
        (b"PRI * HTTP/1.1\r\n", Speaks.HTTP),
        (b"PU", Speaks.HTTP),
        (b"G", Speaks.HTTP),
        (b"\x16\x03\x01", Speaks.NOTHING_KNOWN),
        (b"\x00", Speaks.NOTHING_KNOWN),
        (b"get / HTTP/1.1", Speaks.NOTHING_KNOWN),
    ],
)
def test_the_first_bytes_tell(data: bytes, speaks: Speaks) -> None:
    assert classify(data, tls=False) is speaks


@pytest.mark.parametrize(
    ("protocols", "speaks"),
    [
        (["h2"], Speaks.GRPC),
        (["grpc-exp", "h2"], Speaks.GRPC),
        (["h2", "http/1.1"], Speaks.HTTP),
        (["http/1.1"], Speaks.HTTP),
        (None, Speaks.HTTP),
    ],
)
def test_the_protocols_a_tls_client_offers_tell(protocols: list[str] | None, speaks: Speaks) -> None:
    hello = client_hello(protocols)
    assert classify(hello, tls=True) is speaks
    assert all(classify(hello[:count], tls=True) is Speaks.MORE for count in range(1, len(hello)))
    assert offered_protocols(hello) == tuple(name.encode() for name in protocols or ())


def test_a_hello_whose_lengths_lie_is_refused() -> None:
    hello = client_hello(["h2"])
    for at in range(5, len(hello)):
        broken = hello[:at] + bytes([hello[at] ^ 0xFF]) + hello[at + 1 :]
        try:
            offered_protocols(broken)
        except MalformedHello:
            continue  # refused: anything else than an answer or this error fails the test
    with pytest.raises(MalformedHello):
        offered_protocols(b"\x16\x03\x01\xff\xff" + b"x" * 70_000)
    assert classify(b"GET / HTTP/1.1\r\n", tls=True) is Speaks.NOTHING_KNOWN


async def test_grpc_and_http_share_a_port() -> None:
    listener = await serve_shared(GrpcTransport(), "127.0.0.1:0", SERVICES, _application())
    channel = GrpcTransport().connect(listener.address)
    big = b"x" * 3_000_000
    try:
        answer = await channel.unary(ALLOC, pdpb_pb2.AllocIDRequest(count=7), timeout_s=5)
        assert answer.id == 7
        stream = channel.stream(TSO)
        async with aiohttp.ClientSession() as session:
            for count in range(1, 4):
                await stream.send(pdpb_pb2.TsoRequest(count=count))
                assert (await stream.receive()).count == count
                async with session.put(f"http://{listener.address}/echo", data=io.BytesIO(big)) as response:
                    assert response.status == 200
                    assert await response.read() == big
        stream.cancel()
    finally:
        await channel.close()
        await listener.stop(0.1)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*listener.address.split(":"))


async def test_a_running_call_ends_with_the_listener() -> None:
    listener = await serve_shared(GrpcTransport(), "127.0.0.1:0", SERVICES, _application())
    channel = GrpcTransport().connect(listener.address)
    stream = channel.stream(TSO)
    await stream.send(pdpb_pb2.TsoRequest(count=1))
    await stream.receive()
    await listener.stop(0.05)
    with pytest.raises(RpcError):
        await stream.receive()
    await channel.close()


async def _closed(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(), 5) == b""
    except ConnectionResetError:
        return True


async def test_silent_and_unknown_connections_are_closed_and_too_many_refused() -> None:
    listener = await serve_shared(GrpcTransport(), "127.0.0.1:0", SERVICES, _application(), limits=SHORT)
    host, port = listener.address.split(":")
    try:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"\x16\x03\x01")
        assert await _closed(reader)
        for beginning in (b"", b"PRI"):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(beginning)
            assert await _closed(reader)
            writer.close()
        waiting = [await asyncio.open_connection(host, port) for _ in range(SHORT.connections)]
        reader, writer = await asyncio.open_connection(host, port)
        assert await asyncio.wait_for(reader.read(), SHORT.silence_s / 2) == b""
        for each_reader, _each_writer in waiting:
            assert await _closed(each_reader)
        async with aiohttp.ClientSession() as session, session.get(f"http://{listener.address}/echo") as response:
            assert response.status == 200
    finally:
        await listener.stop(0.05)


async def test_a_preface_that_comes_in_pieces_is_grpc() -> None:
    listener = await serve_shared(GrpcTransport(), "127.0.0.1:0", SERVICES, _application())
    reader, writer = await asyncio.open_connection(*listener.address.split(":"))
    try:
        for piece in (b"PRI * HT", b"TP/2.0\r\n\r\nSM", b"\r\n\r\n", b"\0\0\0\4\0\0\0\0\0"):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(port_front.PEEK_AGAIN_S / 2)
        header = await asyncio.wait_for(reader.readexactly(9), 5)
        assert header[3] == 4, "an HTTP/2 server's first frame is SETTINGS"
    finally:
        writer.close()
        await listener.stop(0.05)


async def test_a_taken_port_is_refused_by_name() -> None:
    listener = await serve_http("127.0.0.1:0", _application())
    try:
        with pytest.raises(ConfigError, match=listener.address):
            await serve_shared(GrpcTransport(), listener.address, SERVICES, _application())
    finally:
        await listener.stop(0.05)


async def _pumped(
    tmp_path: Path, inner: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, asyncio.Event, list[asyncio.AbstractServer]]:
    """A connection to `inner` through a pump, and an event that is set when the pump has ended."""
    path, ended = str(tmp_path / "s"), asyncio.Event()
    inside = await asyncio.start_unix_server(inner, path)
    listening = await port_front.bind("127.0.0.1:0")
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection(*listening.getsockname())
    accepted, _ = await loop.sock_accept(listening)
    listening.close()
    await BytePump(lambda _pump: ended.set()).start(accepted, path)
    return reader, writer, ended, [inside]


async def test_a_reader_that_stops_stops_the_writer(tmp_path: Path) -> None:
    go, got = asyncio.Event(), asyncio.Event()
    total, received = 64 << 20, 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        await go.wait()
        while data := await reader.read(1 << 20):
            received += len(data)
        writer.write(b"bye")  # after the other direction has ended
        writer.close()
        got.set()

    reader, writer, ended, servers = await _pumped(tmp_path, slow)
    chunk = bytes(1 << 16)
    sent = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.5):
            while sent < total:
                sent += len(chunk)
                writer.write(chunk)
                await writer.drain()
    assert sent < total, "nothing was read, yet everything was taken"
    go.set()
    writer.write(bytes(total - sent))
    writer.write_eof()
    await asyncio.wait_for(got.wait(), 20)
    assert received == total
    assert await reader.read() == b"bye"
    await asyncio.wait_for(ended.wait(), 5)
    for server in servers:
        server.close()


async def test_the_loss_of_one_side_closes_the_other(tmp_path: Path) -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"last words")
        writer.transport.close()

    reader, writer, ended, servers = await _pumped(tmp_path, hang_up)
    assert await asyncio.wait_for(reader.read(), 5) == b"last words"
    writer.close()
    await asyncio.wait_for(ended.wait(), 5)
    for server in servers:
        server.close()


async def test_nobody_behind_the_pump(tmp_path: Path) -> None:
    listening = await port_front.bind("127.0.0.1:0")
    reader, writer = await asyncio.open_connection(*listening.getsockname())
    accepted, _ = await asyncio.get_running_loop().sock_accept(listening)
    with pytest.raises(FileNotFoundError):
        await BytePump(lambda _pump: None).start(accepted, str(tmp_path / "nobody"))
    assert await _closed(reader)
    writer.close()
    listening.close()


async def test_grpc_and_https_share_a_port(tmp_path: Path) -> None:
    key, chain = certificate(tmp_path)
    files = (str(tmp_path / "cert.pem"), str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
    server_side = tls.server_context(*files)
    transport = GrpcTransport((chain, key, chain))
    listener = await serve_shared(transport, "127.0.0.1:0", SERVICES, _application(), tls=server_side)
    port = listener.address.split(":")[1]
    channel = transport.connect(f"localhost:{port}")
    try:
        answer = await channel.unary(ALLOC, pdpb_pb2.AllocIDRequest(count=9), timeout_s=5)
        assert answer.id == 9
        trust = tls.client_context(*files)
        async with aiohttp.ClientSession() as session:
            async with session.put(f"https://localhost:{port}/echo", data=b"hello", ssl=trust) as response:
                assert await response.read() == b"hello"
            with pytest.raises(aiohttp.ClientError):
                await session.get(f"http://localhost:{port}/echo")
            with pytest.raises(aiohttp.ClientError):  # without a certificate of its own
                await session.get(f"https://localhost:{port}/echo", ssl=tls.client_context(files[0]))
    finally:
        await channel.close()
        await listener.stop(0.05)


def test_files_that_are_no_certificates_are_named(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("no certificate")
    for make in (tls.server_context, tls.client_context):
        with pytest.raises(ConfigError, match="the TLS files cannot be used"):
            make(str(tmp_path / "ca"), str(tmp_path / "ca"), str(tmp_path / "ca"))
