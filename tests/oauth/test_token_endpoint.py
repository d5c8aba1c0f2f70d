import base64
from typing import Any
from urllib.parse import parse_qs, unquote_to_bytes

import pytest

from refresher import __version__
from refresher.clock import Clock
from refresher.domain.outcomes import GrantRejected, Refreshed, Transient
from refresher.domain.quirks import ClientAuthentication, Placement
from refresher.domain.renewal import RefreshToken
from refresher.domain.secret import Secret
from refresher.oauth.patience import Patience
from refresher.oauth.token_endpoint import TokenEndpoint
from tests.oauth.test_answers import jwt
from tests.oauth.world import TOKENS, RawServer, answering, http_answer, make_client

ODD = "a+b/c=d&e f%41~ü"


async def sent_refresh(
    refresh_token: str = "RT1",
    *,
    scope: tuple[str, ...] = (),
    query: str = "",
    **client: Any,
) -> tuple[str, dict[str, str], str]:
    """Request line, headers and body of one refresh."""
    async with answering(http_answer(TOKENS)) as raw, TokenEndpoint() as endpoint:
        known = make_client(raw.url + query, **client)
        outcome = await endpoint.refresh(
            known, RefreshToken(Secret(refresh_token)), scope=scope, patience=Patience(5)
        )
        assert isinstance(outcome, Refreshed)
        return raw.last


def basic(headers: dict[str, str]) -> str:
    kind, _, encoded = headers["authorization"].partition(" ")
    assert kind == "Basic"
    return base64.b64decode(encoded).decode()


async def test_a_refresh_is_one_plain_form() -> None:
    line, headers, body = await sent_refresh()

    assert line == "POST /token HTTP/1.1"
    assert body == "grant_type=refresh_token&refresh_token=RT1"
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    assert headers["accept"] == "application/json"
    assert headers["accept-encoding"] == "identity"
    assert headers["user-agent"] == f"refresher/{__version__}"
    assert "expect" not in headers


async def test_a_refresh_token_is_form_encoded() -> None:
    _, _, body = await sent_refresh(ODD)

    assert parse_qs(body)["refresh_token"] == [ODD]
    assert "refresh_token=a%2Bb%2Fc%3Dd%26e+f%2541~%C3%BC" in body


@pytest.mark.parametrize(
    ("encode", "expected"),
    [(True, "i%3Ad:s%2B%25+%C3%A9"), (False, "i:d:s+% é")],
    ids=["encoded", "verbatim"],
)
async def test_basic_is_encoded_unless_told(*, encode: bool, expected: str) -> None:
    _, headers, body = await sent_refresh(
        client_id="i:d", client_secret=Secret("s+% é"), encode_basic=encode
    )

    assert basic(headers) == expected
    assert "client" not in body


async def test_basic_without_a_secret_has_an_empty_one() -> None:
    _, headers, _ = await sent_refresh(client_secret=None)

    assert basic(headers) == "id:"


async def test_post_puts_the_secret_into_the_form() -> None:
    _, headers, body = await sent_refresh(
        client_secret=Secret(ODD), client_authentication=ClientAuthentication.POST
    )

    assert parse_qs(body)["client_id"] == ["id"]
    assert parse_qs(body)["client_secret"] == [ODD]
    assert "authorization" not in headers


async def test_a_public_client_only_names_itself() -> None:
    _, headers, body = await sent_refresh(client_authentication=ClientAuthentication.NONE)

    assert parse_qs(body)["client_id"] == ["id"]
    assert "client_secret" not in body
    assert "authorization" not in headers


@pytest.mark.parametrize("query", ["", "?p=policy%26a"], ids=["bare", "with a query"])
async def test_query_placement_is_encoded_exactly(query: str) -> None:
    line, headers, body = await sent_refresh(
        ODD, query=query, placement=Placement.QUERY, client_authentication=ClientAuthentication.POST
    )

    _, target, _ = line.split(" ")
    sent = dict(part.split("=") for part in target.partition("?")[2].split("&"))
    assert sent["refresh_token"] == "a%2Bb%2Fc%3Dd%26e%20f%2541~%C3%BC"
    assert unquote_to_bytes(sent["refresh_token"]).decode() == ODD
    assert sent["client_secret"] == "canary-secret"
    assert sent.get("p") == ("policy%26a" if query else None)
    assert body == ""
    assert headers["content-length"] == "0"


async def test_a_fragment_is_never_sent() -> None:
    line, _, _ = await sent_refresh(query="#frag", placement=Placement.QUERY)

    assert "frag" not in line
    assert "refresh_token=RT1" in line


async def test_token_parameters_join_but_never_override() -> None:
    _, _, body = await sent_refresh(
        token_parameters={"resource": "https://api", "refresh_token": "wrong"}
    )

    assert parse_qs(body)["resource"] == ["https://api"]
    assert parse_qs(body)["refresh_token"] == ["RT1"]


@pytest.mark.parametrize(
    ("client", "scope", "expected"),
    [
        ({}, ("read",), None),
        ({"send_scope_on_refresh": True}, ("read", "write"), ["read write"]),
        ({"send_scope_on_refresh": True, "scope_separator": ","}, ("a", "b"), ["a,b"]),
        ({"send_scope_on_refresh": True}, (), None),
    ],
    ids=["off", "on", "comma", "none known"],
)  # fmt: skip
async def test_scope_is_sent_only_when_asked(
    client: dict[str, Any], scope: tuple[str, ...], expected: list[str] | None
) -> None:
    _, _, body = await sent_refresh(scope=scope, **client)

    assert parse_qs(body).get("scope") == expected


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ({}, None),
        ({"resource": "https://api.example/mcp"}, ["https://api.example/mcp"]),
        ({"resource": "https://api.example/mcp", "send_resource_on_refresh": False}, None),
    ],
    ids=["none", "on", "off"],
)
async def test_a_resource_is_sent_unless_told(
    client: dict[str, Any], expected: list[str] | None
) -> None:
    _, _, body = await sent_refresh(**client)

    assert parse_qs(body).get("resource") == expected


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ({}, {}),
        ({"send_redirect_uri_on_refresh": True}, {"redirect_uri": ["https://a/cb"]}),
        ({"send_redirect_uri_on_refresh": True, "redirect_uri_parameter": "redirect_url"},
         {"redirect_url": ["https://a/cb"]}),
        ({"send_redirect_uri_on_refresh": True, "redirect_uris": ()}, {}),
    ],
    ids=["off", "on", "renamed", "none known"],
)  # fmt: skip
async def test_the_redirect_uri_is_sent_only_when_asked(
    client: dict[str, Any], expected: dict[str, list[str]]
) -> None:
    _, _, body = await sent_refresh(**{"redirect_uris": ("https://a/cb", "https://b"), **client})

    assert {n: v for n, v in parse_qs(body).items() if n.startswith("redirect")} == expected


async def test_the_redirect_uri_of_the_login_is_the_one_sent() -> None:
    async with answering(http_answer(TOKENS)) as raw, TokenEndpoint() as endpoint:
        known = make_client(
            raw.url, redirect_uris=("https://a/cb",), send_redirect_uri_on_refresh=True
        )
        await endpoint.refresh(
            known,
            RefreshToken(Secret("RT1")),
            redirect_uri="http://127.0.0.1:4711/cb",
            patience=Patience(5),
        )
        _, _, body = raw.last

    assert parse_qs(body)["redirect_uri"] == ["http://127.0.0.1:4711/cb"]


async def redeemed(raw: RawServer, verifier: Secret | None, **client: Any) -> dict[str, list[str]]:
    async with TokenEndpoint() as endpoint:
        await endpoint.redeem(
            make_client(raw.url, **client),
            Secret("4/0A+"),
            redirect_uri="http://127.0.0.1:8400/cb",
            code_verifier=verifier,
            patience=Patience(5),
        )
    return parse_qs(raw.last[2])


async def test_a_code_is_redeemed_with_its_verifier() -> None:
    async with answering(http_answer(TOKENS)) as raw:
        assert await redeemed(raw, Secret("V")) == {
            "grant_type": ["authorization_code"],
            "code": ["4/0A+"],
            "redirect_uri": ["http://127.0.0.1:8400/cb"],
            "code_verifier": ["V"],
        }


async def test_a_code_is_redeemed_with_renamed_parameter() -> None:
    async with answering(http_answer(TOKENS)) as raw:
        sent = await redeemed(raw, None, redirect_uri_parameter="redirect_url")

    assert sent.keys() == {"grant_type", "code", "redirect_url"}


async def test_a_refusal_comes_back_as_a_value() -> None:
    async with (
        answering(http_answer({"error": "invalid_grant"}, 400), http_answer(b"", 429)) as raw,
        TokenEndpoint() as endpoint,
    ):
        client = make_client(raw.url)

        assert await endpoint.refresh(
            client, RefreshToken(Secret("RT")), patience=Patience(5)
        ) == GrantRejected(error="invalid_grant", status=400)
        assert await endpoint.refresh(
            client, RefreshToken(Secret("RT")), patience=Patience(5)
        ) == Transient(reason="http_429", status=429)


class StoppedClock:
    def now(self) -> float:
        return 1_800_000_000.0

    def monotonic(self) -> float:
        return 0.0

    def since_boot(self) -> None:
        return None

    def draw(self) -> float:
        return 0.5


async def test_a_jwts_end_is_dated_by_the_clock() -> None:
    clock: Clock = StoppedClock()
    body = {"access_token": jwt({"exp": 1_800_000_077})}
    async with answering(http_answer(body)) as raw, TokenEndpoint(clock) as endpoint:
        outcome = await endpoint.refresh(
            make_client(raw.url), RefreshToken(Secret("RT")), patience=Patience(5)
        )

    assert isinstance(outcome, Refreshed)
    assert outcome.answer.expires_in == 77.0
