"""What the tests of this room share: a client, raw servers on loopback, certificates."""

import asyncio
import datetime as dt
import ipaddress
import json
import os
import resource
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from refresher.domain.clients import Client
from refresher.domain.outcomes import Outcome
from refresher.domain.renewal import RefreshToken
from refresher.domain.secret import Secret
from refresher.oauth.patience import Patience
from refresher.oauth.token_endpoint import TokenEndpoint
from tests.support import clients

REFRESH_TOKEN = "canary-RT1"
CLIENT_SECRET = "canary-secret"
CODE = "canary-code"
VERIFIER = "canary-verifier"
ACCESS_TOKEN = "canary-AT"
PROXY_PASSWORD = "canary-proxy"
CANARIES = (REFRESH_TOKEN, CLIENT_SECRET, CODE, VERIFIER, ACCESS_TOKEN, PROXY_PASSWORD)

TOKENS = {"access_token": "AT2", "refresh_token": "RT2", "expires_in": 3600}

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def make_client(token_endpoint: str = "http://127.0.0.1:9/token", **told: Any) -> Client:
    parts: dict[str, Any] = {"client_secret": Secret(CLIENT_SECRET), **told}
    return clients.make_client("app", token_endpoint=token_endpoint, **parts)


def http_answer(
    body: bytes | dict[str, Any] = b"",
    status: int = 200,
    headers: dict[str, str] | None = None,
    *,
    length: int | None = None,
) -> bytes:
    """The bytes of an answer; LENGTH lies about how many are to come."""
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    fields = {"Content-Length": str(len(content) if length is None else length), **(headers or {})}
    lines = [f"HTTP/1.1 {status} Word", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


class RawServer:
    """Reads requests byte for byte and answers with whatever a test wants."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.url = ""
        self.port = 0

    @property
    def last(self) -> tuple[str, dict[str, str], str]:
        """Request line, headers in lower case, and body of the latest request."""
        head, _, body = self.requests[-1].decode().partition("\r\n\r\n")
        line, *fields = head.split("\r\n")
        return line, {n.lower(): v for n, v in (f.split(": ", 1) for f in fields)}, body

    async def read_request(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        fields = head.decode().lower().split("\r\n")
        length = next((int(f[16:]) for f in fields if f.startswith("content-length: ")), 0)
        request = head + await reader.readexactly(length)
        self.requests.append(request)
        return request


@asynccontextmanager
async def serving(
    handle: Callable[[RawServer, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    *,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[RawServer]:
    """Serve connections with HANDLE until the block ends."""
    raw = RawServer()
    handlers: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(raw, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the other side went away, as some tests want
        finally:
            writer.transport.abort() if writer.is_closing() else writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw.connections += 1
        handlers[asyncio.create_task(serve(reader, writer))] = writer

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    raw.port = server.sockets[0].getsockname()[1]
    raw.url = f"http{'s' if tls else ''}://127.0.0.1:{raw.port}/token"
    try:
        yield raw
    finally:
        server.close()
        for handler, writer in handlers.items():
            handler.cancel()  # one that waits for ever would be destroyed beside a later test
            writer.transport.abort()  # one that was cancelled before its first step closes nothing
        failed = await asyncio.gather(*handlers, return_exceptions=True)
        await server.wait_closed()
    for failure in failed:
        if isinstance(failure, Exception):
            raise failure


@asynccontextmanager
async def answering(*answers: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    """Answer each request with the next of ANSWERS, keep-alive, the last one for ever."""

    async def handle(
        raw: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            await raw.read_request(reader)
            writer.write(answers[min(len(raw.requests), len(answers)) - 1])
            await writer.drain()

    async with serving(handle, tls=tls) as raw:
        yield raw


async def refreshed(url: str, *, deadline: float = 5.0, **client: Any) -> Outcome:
    async with TokenEndpoint() as endpoint:
        return await endpoint.refresh(
            make_client(url, **client),
            RefreshToken(Secret(REFRESH_TOKEN)),
            patience=Patience(deadline),
        )


@asynccontextmanager
async def replying(*pieces: bytes, hang: bool = False) -> AsyncIterator[RawServer]:
    """Read one request, send PIECES one by one, then hang or close."""

    async def handle(
        raw: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await raw.read_request(reader)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.005)  # so that pieces travel one by one
        if hang:
            await reader.read()

    async with serving(handle) as raw:
        yield raw


def make_certificate(folder: Path, *, host: str = "127.0.0.1", days: int = 1) -> Path:
    """A self-signed certificate and its key in one PEM file; expired if DAYS is negative."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    try:
        subject: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        subject = x509.DNSName(host)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=3))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([subject]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{host}{days}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path


def server_context(pem: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    return context


@contextmanager
def without_descriptors() -> Iterator[None]:
    """Within the block this process can open nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        with suppress(OSError):  # what opening one too many brings
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)
