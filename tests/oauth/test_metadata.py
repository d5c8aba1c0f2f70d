"""What servers and protected resources say of themselves, and what of it is believed."""

from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from refresher.demo.private_server import free_port
from refresher.domain.clients import Client
from refresher.domain.discovery import Discovery, Metadata
from refresher.domain.quirks import ClientAuthentication
from refresher.errors import DiscoveryFailed
from refresher.oauth.metadata import discover, places
from refresher.oauth.metadata_values import url_fault
from refresher.oauth.protected_resource import is_part_of
from refresher.oauth.token_endpoint import TokenEndpoint
from tests.oauth.world import RawServer, http_answer, make_client, serving

NOW = 1_800_000_000.0
SERVER = "/.well-known/oauth-authorization-server"
OPENID = "/.well-known/openid-configuration"
RESOURCE = "/.well-known/oauth-protected-resource"

Answers = Mapping[str, bytes]


def base_of(raw: RawServer) -> str:
    return f"http://127.0.0.1:{raw.port}"


@asynccontextmanager
async def showing(answers: Callable[[str], Answers]) -> AsyncIterator[RawServer]:
    """A server that answers each path as ANSWERS of its own address say, others with 404."""

    async def handle(raw: RawServer, reader: StreamReader, writer: StreamWriter) -> None:
        while True:
            request = await raw.read_request(reader)
            path = request.split(b" ")[1].decode()
            writer.write(answers(base_of(raw)).get(path, http_answer(status=404)))
            await writer.drain()

    async with serving(handle) as raw:
        yield raw


def asked(raw: RawServer) -> list[str]:
    return [request.split(b" ")[1].decode() for request in raw.requests]


def client_of(
    issuer: str | None = None, resource: str | None = None, *, told: str = "", **more: Any
) -> Client:
    wanted = Discovery(issuer=issuer, resource=resource, told=frozenset(told.split()))
    return make_client("", discovery=wanted, issuer=issuer, **more)


async def found(client: Client) -> Metadata:
    async with TokenEndpoint() as endpoint:
        return await discover(endpoint, client, NOW)


def document(issuer: str, **more: Any) -> bytes:
    return http_answer({"issuer": issuer, "token_endpoint": f"{issuer}/token", **more})


async def test_metadata_are_read() -> None:
    def answers(base: str) -> Answers:
        return {
            SERVER: document(
                base,
                authorization_endpoint=f"{base}/authorize",
                pushed_authorization_request_endpoint=f"{base}/par",
                registration_endpoint=f"{base}/register",
                token_endpoint_auth_methods_supported=["client_secret_post", "none"],
                code_challenge_methods_supported=["S256"],
                authorization_response_iss_parameter_supported=True,
                require_pushed_authorization_requests=True,
                scopes_supported=["read", "offline_access", "a b", 7],
            )
        }

    async with showing(answers) as raw:
        base = base_of(raw)
        metadata = await found(client_of(base))
        line, headers, body = raw.last
    assert line == f"GET {SERVER} HTTP/1.1"
    assert "authorization" not in headers
    assert body == ""
    assert metadata == Metadata(
        source=base,
        issuer=base,
        read_at=NOW,
        endpoints={
            "authorization_endpoint": f"{base}/authorize",
            "token_endpoint": f"{base}/token",
            "registration_endpoint": f"{base}/register",
            "pushed_authorization_request_endpoint": f"{base}/par",
        },
        client_authentications=("client_secret_post", "none"),
        challenge_methods=("S256",),
        promises_issuer=True,
        requires_push=True,
        scopes=("read", "offline_access"),
    )


@pytest.mark.parametrize("promise", [False, None, "true", 1])
async def test_only_a_promise_is_one(promise: Any) -> None:
    def answers(base: str) -> Answers:
        return {SERVER: document(base, authorization_response_iss_parameter_supported=promise)}

    async with showing(answers) as raw:
        assert not (await found(client_of(base_of(raw)))).promises_issuer


def test_a_path_of_the_issuer_goes_behind_the_well_known_part() -> None:
    assert list(places("https://as.example/tenant/")) == [
        f"https://as.example{SERVER}/tenant",
        f"https://as.example{OPENID}/tenant",
        f"https://as.example/tenant{OPENID}",
    ]
    assert list(places("https://as.example")) == [
        f"https://as.example{SERVER}",
        f"https://as.example{OPENID}",
    ]


async def test_openid_metadata_count_where_there_are_no_others() -> None:
    async with showing(lambda base: {f"/t{OPENID}": document(f"{base}/t")}) as raw:
        metadata = await found(client_of(f"{base_of(raw)}/t"))
        assert metadata.issuer == f"{base_of(raw)}/t"
        assert asked(raw) == [f"{SERVER}/t", f"{OPENID}/t", f"/t{OPENID}"]


NO_DOCUMENTS = [
    pytest.param(http_answer(status=404), "", id="none"),
    pytest.param(http_answer(b"<html>", 200), "", id="a page"),
    pytest.param(http_answer(b"", 302, {"Location": "/x"}), "not followed", id="a redirect"),
]


@pytest.mark.parametrize(("answer", "words"), NO_DOCUMENTS)
async def test_a_server_without_metadata_is_enough_where_the_settings_know_all(
    answer: bytes, words: str
) -> None:
    async with showing(lambda _: {SERVER: answer, OPENID: answer}) as raw:
        metadata = await found(client_of(base_of(raw), told="token_endpoint"))
        assert len(raw.requests) == 2
        assert (metadata.endpoints, metadata.promises_issuer) == ({}, False)
        with pytest.raises(DiscoveryFailed, match="shows no metadata at") as failure:
            await found(client_of(base_of(raw)))
    assert "set its authorization_endpoint and token_endpoint" in str(failure.value)
    assert words in str(failure.value)
    assert not failure.value.passes


@pytest.mark.parametrize(
    "answer", [http_answer(status=503), http_answer(b"{", 200, length=9)], ids=["503", "cut off"]
)
async def test_what_cannot_be_read_is_not_assumed_away(answer: bytes) -> None:
    async def cut_off(raw: RawServer, reader: StreamReader, writer: StreamWriter) -> None:
        await raw.read_request(reader)
        writer.write(answer)

    async with serving(cut_off) as raw:
        with pytest.raises(DiscoveryFailed, match="cannot be read now") as failure:
            await found(client_of(base_of(raw), told="token_endpoint"))
    assert failure.value.passes


async def test_a_server_that_is_away_is_asked_again_later() -> None:
    with pytest.raises(DiscoveryFailed, match="nothing listens there") as failure:
        await found(client_of(f"http://127.0.0.1:{free_port()}"))
    assert failure.value.passes


async def test_the_metadata_of_another_issuer_are_refused() -> None:
    def answers(base: str) -> Answers:
        return {SERVER: document("https://other.example", token_endpoint=f"{base}/token")}

    async with showing(answers) as raw:
        with pytest.raises(DiscoveryFailed) as failure:
            await found(client_of(base_of(raw)))
    assert "name another issuer: write `issuer` of client app exactly" in str(failure.value)
    assert '"https://other.example"' in str(failure.value)


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        (None, "name no token_endpoint: set it"),
        ("http://as.example/token", "is http://"),
        ("http://169.254.169.254/token", "is http://"),
        ("https://169.254.169.254/token", "link-local"),
        ("https://u:p@as.example/token", "user or password"),
        ("https://as.example/token#x", "fragment"),
        ("javascript:alert(1)", "is not a URL"),
        ("https://as.example/" + "x" * 3000, "is no URL"),
        (["https://as.example/token"], "is no URL"),
        ("https://as.example/\u202enekot", "is no URL"),
    ],
)
async def test_no_endpoint_unfit_for_secrets_is_taken(endpoint: Any, words: str) -> None:
    async with showing(lambda base: {SERVER: document(base, token_endpoint=endpoint)}) as raw:
        with pytest.raises(DiscoveryFailed) as failure:
            await found(client_of(base_of(raw)))
        assert words in str(failure.value)
        assert "as.example" not in str(failure.value)
        metadata = await found(client_of(base_of(raw), told="token_endpoint"))
    assert metadata.endpoints == {}


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/token", "http://localhost/token"])
def test_no_server_elsewhere_leads_to_a_port_of_this_machine(url: str) -> None:
    client = client_of("https://as.example")
    fault = url_fault(url, client, below="https://as.example")
    assert fault == "is http://, and whoever names it is https://"
    assert url_fault(url, client, below="http://127.0.0.1:9/") is None


async def test_a_certificate_has_endpoints_of_its_own() -> None:
    def answers(base: str) -> Answers:
        aliases = {"token_endpoint": f"{base}/mtls/token"}
        return {SERVER: document(base, mtls_endpoint_aliases=aliases)}

    async with showing(answers) as raw:
        client = client_of(base_of(raw), client_authentication=ClientAuthentication.TLS)
        certified, other = await found(client), await found(client_of(base_of(raw)))
    assert certified.endpoints["token_endpoint"].endswith("/mtls/token")
    assert other.endpoints["token_endpoint"] == f"{base_of(raw)}/token"


def of_resource(base: str, path: str, **more: Any) -> bytes:
    fields = {"resource": f"{base}{path}", "authorization_servers": [base], **more}
    return http_answer(fields)


def refused(challenge: str) -> bytes:
    return http_answer(b"", 401, {"WWW-Authenticate": challenge})


async def test_a_refusal_names_the_metadata_of_a_resource() -> None:
    def answers(base: str) -> Answers:
        named = f'Bearer realm="x", resource_metadata="{base}/elsewhere", scope="a b"'
        return {
            "/mcp": refused(named),
            "/elsewhere": of_resource(base, "/mcp", scopes_supported=["c"]),
            SERVER: document(base),
        }

    async with showing(answers) as raw:
        base = base_of(raw)
        metadata = await found(client_of(resource=f"{base}/mcp"))
        assert asked(raw) == ["/mcp", "/elsewhere", SERVER]
    assert (metadata.source, metadata.issuer) == (f"{base}/mcp", base)
    assert (metadata.resource, metadata.resource_scopes) == (f"{base}/mcp", ("a", "b"))
    assert not metadata.demands_proof


@pytest.mark.parametrize(
    ("first", "path", "places_asked"),
    [
        (refused("Bearer"), "/mcp", ["/mcp", f"{RESOURCE}/mcp", SERVER]),
        (http_answer(b"data: x\n\n", 200), "", ["/mcp", f"{RESOURCE}/mcp", RESOURCE, SERVER]),
        (http_answer(status=405), "", ["/mcp", f"{RESOURCE}/mcp", RESOURCE, SERVER]),
    ],
    ids=["by its path", "by its host", "whatever it answers"],
)
async def test_a_resource_is_found_at_its_well_known_places(
    first: bytes, path: str, places_asked: list[str]
) -> None:
    def answers(base: str) -> Answers:
        known = {f"{RESOURCE}{path}": of_resource(base, path, scopes_supported=["c"])}
        return {"/mcp": first, SERVER: document(base), **known}

    async with showing(answers) as raw:
        metadata = await found(client_of(resource=f"{base_of(raw)}/mcp"))
        assert asked(raw) == places_asked
    assert metadata.resource == f"{base_of(raw)}{path}"
    assert metadata.resource_scopes == ("c",)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (None, "names no authorization server"),
        ({"resource": "https://other.example/mcp"}, "those of another resource"),
        ({"authorization_servers": []}, "list no authorization_servers"),
        ({"authorization_servers": ["http://as.example"]}, "authorization server that is http://"),
        ({"authorization_servers": ["https://169.254.0.1"]}, "link-local"),
    ],
)
async def test_a_resource_that_names_no_server_is_told_how_to_be_helped(
    fields: dict[str, Any] | None, words: str
) -> None:
    def answers(base: str) -> Answers:
        if fields is None:
            return {}
        return {f"{RESOURCE}/mcp": of_resource(base, "/mcp", **fields)}

    async with showing(answers) as raw:
        with pytest.raises(DiscoveryFailed) as failure:
            await found(client_of(resource=f"{base_of(raw)}/mcp"))
    assert words in str(failure.value)
    assert "`issuer`" in str(failure.value)


async def test_metadata_named_over_plain_http_are_not_fetched() -> None:
    named = refused('Bearer resource_metadata="http://as.example/x"')
    async with showing(lambda _: {"/mcp": named}) as raw:
        with pytest.raises(DiscoveryFailed, match="at a URL that is http://"):
            await found(client_of(resource=f"{base_of(raw)}/mcp"))
        assert asked(raw) == ["/mcp"]


async def test_a_resource_that_wants_bound_tokens_is_known() -> None:
    def answers(base: str) -> Answers:
        bound = of_resource(base, "/mcp", dpop_bound_access_tokens_required=True)
        return {f"{RESOURCE}/mcp": bound, SERVER: document(base)}

    async with showing(answers) as raw:
        assert (await found(client_of(resource=f"{base_of(raw)}/mcp"))).demands_proof


@pytest.mark.parametrize(
    ("named", "counts"),
    [
        ("https://h.example/a/b", True),
        ("https://h.example/a/b/", True),
        ("https://h.example/a", True),
        ("https://h.example", True),
        ("https://H.example/", True),
        ("https://h.example/a/bc", False),
        ("https://h.example/a/b/c", False),
        ("https://h.example/a?x", False),
        ("https://other.example/a/b", False),
        ("http://h.example/a/b", False),
        ("https://h.example:8443/a/b", False),
    ],
)
def test_no_resource_speaks_for_another(named: str, *, counts: bool) -> None:
    assert is_part_of("https://h.example/a/b", named) is counts
