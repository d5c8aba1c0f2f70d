"""Clients that prove themselves with a key: signed assertions, and certificates."""

import ssl
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey

from refresher.domain.outcomes import NotSent, Refreshed
from refresher.domain.quirks import AssertionAlgorithm, AssertionAudience, ClientAuthentication
from refresher.domain.renewal import RefreshToken
from refresher.domain.secret import Secret
from refresher.oauth.assertion import LIVES
from refresher.oauth.patience import Patience
from refresher.oauth.token_endpoint import TokenEndpoint
from tests.oauth.world import (
    TOKENS,
    answering,
    http_answer,
    make_certificate,
    make_client,
    refreshed,
    server_context,
)
from tests.vault.world import FakeClock

NOW = 1_800_000_000.0
JWT = ClientAuthentication.PRIVATE_KEY_JWT


def pem(key: PrivateKeyTypes) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


KEYS: dict[str, tuple[str, type[Any]]] = {
    "RS256": (pem(rsa.generate_private_key(65537, 2048)), RSAKey),
    "ES256": (pem(ec.generate_private_key(ec.SECP256R1())), ECKey),
    "EdDSA": (pem(ed25519.Ed25519PrivateKey.generate()), OKPKey),
}
KEYS["PS256"] = KEYS["RS256"]


async def assertions(count: int = 1, **client: Any) -> list[str]:
    """The assertions of COUNT refreshes that present one refresh token, as in replays."""
    async with answering(http_answer(TOKENS)) as raw, TokenEndpoint(FakeClock(NOW)) as endpoint:
        known = make_client(raw.url, client_secret=None, client_authentication=JWT, **client)
        for _ in range(count):
            await endpoint.refresh(known, RefreshToken(Secret("RT")), patience=Patience(5))
        forms = [parse_qs(one.decode().partition("\r\n\r\n")[2]) for one in raw.requests]
    for form in forms:
        assert form["client_assertion_type"] == [
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        ]
        assert "client_secret" not in form
    return [form["client_assertion"][0] for form in forms]


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
@pytest.mark.parametrize("algorithm", list(AssertionAlgorithm))
async def test_an_assertion_is_signed_with_the_key(algorithm: AssertionAlgorithm) -> None:
    key, kind = KEYS[algorithm.value]
    [signed] = await assertions(
        private_key=Secret(key), key_id="k1", assertion_algorithm=algorithm, client_id="app"
    )
    token = jwt.decode(signed, kind.import_key(key), algorithms=[algorithm.value])
    assert token.header["kid"] == "k1"
    assert token.claims["iss"] == token.claims["sub"] == "app"
    assert token.claims["aud"].startswith("http://127.0.0.1:")
    assert (token.claims["iat"], token.claims["exp"]) == (NOW, NOW + LIVES)


async def test_every_request_has_an_assertion_of_its_own() -> None:
    key, kind = KEYS["ES256"]
    signed = await assertions(
        3, private_key=Secret(key), assertion_algorithm=AssertionAlgorithm.ES256
    )
    known = kind.import_key(key)
    ids = {jwt.decode(one, known, algorithms=["ES256"]).claims["jti"] for one in signed}
    assert len(ids) == 3


async def test_the_audience_can_be_the_issuer() -> None:
    key, kind = KEYS["ES256"]
    [signed] = await assertions(
        private_key=Secret(key),
        assertion_algorithm=AssertionAlgorithm.ES256,
        assertion_audience=AssertionAudience.ISSUER,
        issuer="https://issuer.example",
    )
    claims = jwt.decode(signed, kind.import_key(key), algorithms=["ES256"]).claims
    assert claims["aud"] == "https://issuer.example"


@pytest.mark.parametrize(
    "key",
    [None, Secret("-----BEGIN PRIVATE KEY-----canary-key"), Secret(KEYS["ES256"][0])],
    ids=["none", "broken", "of another kind"],
)
async def test_a_key_that_cannot_sign_sends_nothing(key: Secret | None) -> None:
    async with answering(http_answer(TOKENS)) as raw:
        outcome = await refreshed(raw.url, private_key=key, client_authentication=JWT)
    assert outcome == NotSent(reason="client_private_key")
    assert raw.connections == 0
    assert "canary" not in repr(make_client(private_key=key))


def demanding(server: Path, *clients: Path) -> ssl.SSLContext:
    """A server that wants one of the certificates of CLIENTS."""
    context = server_context(server)
    context.verify_mode = ssl.CERT_REQUIRED
    for each in clients:
        context.load_verify_locations(each)
    return context


@pytest.mark.parametrize("method", [ClientAuthentication.TLS, ClientAuthentication.SELF_SIGNED_TLS])
async def test_a_certificate_proves_the_client(
    method: ClientAuthentication, tmp_path: Path
) -> None:
    server, ours = make_certificate(tmp_path), make_certificate(tmp_path, host="app.example")
    told: dict[str, Any] = {"ca_bundle": str(server), "client_authentication": method}
    async with answering(http_answer(TOKENS), tls=demanding(server, ours)) as raw:
        outcome = await refreshed(raw.url, certificate=str(ours), **told)
        assert isinstance(outcome, Refreshed)
        _, headers, body = raw.last
        assert not isinstance(await refreshed(raw.url, **told), Refreshed), "without one"
    assert "authorization" not in headers
    assert parse_qs(body)["client_id"] == ["id"]
    assert "client_secret" not in body
    assert len(raw.requests) == 1


async def test_a_replaced_certificate_is_shown_from_the_next_connection(tmp_path: Path) -> None:
    server = make_certificate(tmp_path)
    old, new = (make_certificate(tmp_path, host=f"{name}.example") for name in ("old", "new"))
    used = tmp_path / "used.pem"
    used.write_bytes(old.read_bytes())
    close = {"Connection": "close"}
    answer = http_answer(TOKENS, headers=close)
    async with (
        answering(answer, tls=demanding(server, new)) as raw,
        TokenEndpoint() as endpoint,
    ):
        client = make_client(
            raw.url,
            ca_bundle=str(server),
            certificate=str(used),
            client_authentication=ClientAuthentication.TLS,
        )
        renewal = RefreshToken(Secret("RT"))
        before = await endpoint.refresh(client, renewal, patience=Patience(5))
        used.write_bytes(b"half of a cert")
        await endpoint.refresh(client, renewal, patience=Patience(5))
        used.write_bytes(new.read_bytes())
        after = await endpoint.refresh(client, renewal, patience=Patience(5))
    assert not isinstance(before, Refreshed)
    assert isinstance(after, Refreshed)


async def test_a_certificate_that_cannot_be_read_sends_nothing(tmp_path: Path) -> None:
    outcome = await refreshed(
        "https://127.0.0.1:9/",
        certificate=str(tmp_path / "missing.pem"),
        client_authentication=ClientAuthentication.TLS,
    )
    assert isinstance(outcome, NotSent)
