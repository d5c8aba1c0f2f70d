"""Dynamic client registration: what is asked for, what is kept, what is said when it fails."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from refresher.demo.private_server import free_port
from refresher.domain.clients import Client
from refresher.domain.discovery import Discovery, Metadata, Registration
from refresher.domain.quirks import AssertionAlgorithm, ClientAuthentication
from refresher.domain.secret import Secret
from refresher.errors import RegistrationFailed
from refresher.oauth.registration import WORDS, method_for, register
from refresher.oauth.token_endpoint import TokenEndpoint
from tests.oauth.world import answering, http_answer, make_client

NOW = 1_800_000_000.0
LOOPBACK = ("http://127.0.0.1:8765/callback",)
ISSUER = "https://as.example"
MADE = {"client_id": "made", "client_secret": "canary-made", "client_secret_expires_at": 0}


def client_of(url: str, *, told: str = "", **more: Any) -> Client:
    parts: dict[str, Any] = {
        "client_id": "",
        "client_secret": None,
        "client_authentication": ClientAuthentication.NONE,
        "redirect_uris": LOOPBACK,
        "discovery": Discovery(issuer=ISSUER, told=frozenset(told.split())),
        "issuer": ISSUER,
        "registration_endpoint": url,
        **more,
    }
    return make_client("", **parts)


def metadata(*methods: str) -> Metadata:
    return Metadata(source=ISSUER, issuer=ISSUER, read_at=NOW, client_authentications=methods)


async def registered(client: Client, known: Metadata | None = None) -> Registration:
    async with TokenEndpoint() as endpoint:
        return await register(endpoint, client, known, NOW)


async def test_what_the_settings_say_is_registered() -> None:
    token = "canary-registration"
    answer = {
        **MADE,
        "client_secret_expires_at": int(NOW) + 60,
        "registration_access_token": token,
        "registration_client_uri": "https://as.example/register/made",
    }
    async with answering(http_answer(answer, 201)) as raw:
        client = client_of(
            raw.url,
            scope=("read", "write"),
            description="Invoices",
            initial_access_token=Secret("canary-initial"),
        )
        made = await registered(client, metadata("client_secret_post", "none"))
        line, headers, body = raw.last
    assert line == "POST /token HTTP/1.1"
    assert headers["authorization"] == "Bearer canary-initial"
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == {
        "client_name": "Invoices",
        "redirect_uris": list(LOOPBACK),
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "client_secret_post",
        "application_type": "native",
        "scope": "read write",
    }
    assert made == Registration(
        server=ISSUER,
        client_id="made",
        client_authentication="client_secret_post",
        registered_at=NOW,
        client_secret=Secret("canary-made"),
        client_secret_expires_at=NOW + 60,
        registration_access_token=Secret(token),
        registration_client_uri="https://as.example/register/made",
    )
    assert "canary" not in repr(made)


async def test_the_servers_own_word_counts() -> None:
    answer = {"client_id": "made", "token_endpoint_auth_method": "none"}
    more = {"dpop_bound_access_tokens": True, "client_secret_expires_at": 0}
    async with answering(http_answer(answer | more, 201)) as raw:
        made = await registered(client_of(raw.url))
    assert (made.client_authentication, made.client_secret) == ("none", None)
    assert made.client_secret_expires_at is None
    assert made.demands_proof


async def test_a_client_that_signs_registers_its_public_key() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    async with answering(http_answer({"client_id": "made"}, 201)) as raw:
        client = client_of(
            raw.url,
            client_authentication=ClientAuthentication.PRIVATE_KEY_JWT,
            assertion_algorithm=AssertionAlgorithm.ES256,
            private_key=Secret(pem.decode()),
            key_id="k1",
        )
        await registered(client)
        asked = json.loads(raw.last[2])
    [public] = asked["jwks"]["keys"]
    assert (public["kty"], public["kid"], public["alg"]) == ("EC", "k1", "ES256")
    assert "d" not in public
    assert asked["token_endpoint_auth_method"] == "private_key_jwt"


async def test_a_client_of_the_web_says_so() -> None:
    async with answering(http_answer(MADE, 201)) as raw:
        await registered(client_of(raw.url, redirect_uris=("https://app.example/cb",)))
        assert json.loads(raw.last[2])["application_type"] == "web"


@pytest.mark.parametrize(
    ("offered", "told", "chosen"),
    [
        (("client_secret_basic", "client_secret_post"), "", "client_secret_basic"),
        (("client_secret_post", "none"), "", "client_secret_post"),
        (("none",), "", "none"),
        (("private_key_jwt",), "", "client_secret_basic"),
        (("client_secret_basic",), "client_authentication", "none"),
    ],
)
def test_the_best_way_that_is_offered_is_asked_for(
    offered: tuple[str, ...], told: str, chosen: str
) -> None:
    assert method_for(client_of("https://x", told=told), metadata(*offered)).value == chosen


async def failure(answer: bytes, **client: Any) -> str:
    async with answering(answer) as raw:
        with pytest.raises(RegistrationFailed) as failed:
            await registered(client_of(raw.url, **client))
    return str(failed.value)


@pytest.mark.parametrize("word", sorted(WORDS))
async def test_every_refusal_names_its_mend(word: str) -> None:
    told = await failure(http_answer({"error": word, "error_description": "canary"}, 400))
    assert told == f"client app was not registered ({word}): {WORDS[word]}"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (http_answer(b"", 401), "initial_access_token"),
        (http_answer(b"", 403), "initial_access_token"),
        (http_answer(b"<html>", 404), "check registration_endpoint"),
        (http_answer(b"<html>", 200), "sends no JSON"),
        (http_answer({"error": "canary"}, 400), "answers with 400"),
        (http_answer({"x": 1}, 201), "without a client_id"),
        (http_answer({"client_id": "made"}, 201), "gave it no client_secret"),
        (http_answer({**MADE, "token_endpoint_auth_method": "canary"}, 201), "unknown here"),
        (http_answer({"client_id": "a\nb"}, 201), "without a client_id"),
    ],
)
async def test_what_is_no_registration_is_told(answer: bytes, words: str) -> None:
    told = await failure(answer, client_authentication=ClientAuthentication.BASIC)
    assert words in told
    assert "canary" not in told


async def test_what_is_missing_is_asked_for() -> None:
    assert "set registration_endpoint" in await missing(client_of(""), registration_endpoint=None)
    assert "has no redirect_uris" in await missing(client_of("https://x"), redirect_uris=())
    away = client_of(f"http://127.0.0.1:{free_port()}")
    assert "was not reached" in await missing(away)


async def missing(client: Client, **changes: Any) -> str:
    from tests.support.clients import changed  # noqa: PLC0415  of this helper alone

    with pytest.raises(RegistrationFailed) as failed:
        await registered(changed(client, **changes))
    return str(failed.value)
