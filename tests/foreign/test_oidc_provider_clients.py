"""``oidc-provider``: each way a client proves itself, what it publishes, and measured blind."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc.jwk import ECKey

from refresher.demo.private_server import free_port
from refresher.domain.outcomes import ClientRejected, GrantRejected
from refresher.domain.quirks import AssertionAlgorithm, AssertionAudience, ClientAuthentication
from refresher.domain.secret import Secret
from refresher.oauth.measuring.liveness import discovered
from refresher.oauth.token_endpoint import TokenEndpoint
from tests.foreign.provider import running_provider
from tests.foreign.servers import (
    CLIENT_SECRET,
    Met,
    logged_in,
    measured,
    value,
    walked,
)
from tests.oauth.world import make_certificate

pytestmark = pytest.mark.foreign


@contextmanager
def provider(folder: Path, **options: Any) -> Iterator[Met]:
    inner = folder / "provider"
    inner.mkdir()
    redirect_uri = f"http://127.0.0.1:{free_port()}/callback"
    with running_provider(inner, CLIENT_SECRET, redirect_uri=redirect_uri, **options) as running:
        yield Met(
            authorization=running.authorization_endpoint,
            token=running.token_endpoint,
            revocation=running.revocation_endpoint,
            introspection=running.introspection_endpoint,
            redirect_uri=redirect_uri,
        )


def method(way: ClientAuthentication, **more: Any) -> dict[str, Any]:
    return {"client": {"token_endpoint_auth_method": way.value, **more}}


@pytest.mark.parametrize("way", [ClientAuthentication.BASIC, ClientAuthentication.POST])
def test_a_client_with_a_secret(tmp_path: Path, way: ClientAuthentication) -> None:
    with provider(tmp_path, **method(way)) as met:
        anyio.run(walked, met, met.client(client_authentication=way, scope=("openid",)))


def test_a_client_that_signs(tmp_path: Path) -> None:
    key = ECKey.generate_key("P-256", {"kid": "k1", "alg": "ES256"}, private=True)
    way = ClientAuthentication.PRIVATE_KEY_JWT
    public = {"keys": [key.as_dict(private=False)]}
    with provider(tmp_path, **method(way, jwks=public)) as met:
        issuer = met.token.removesuffix("/token")
        client = met.client(
            client_authentication=way,
            client_secret=None,
            private_key=Secret(key.as_pem(private=True).decode()),
            key_id="k1",
            assertion_algorithm=AssertionAlgorithm.ES256,
            assertion_audience=AssertionAudience.ISSUER,
            issuer=issuer,
            scope=("openid",),
        )
        anyio.run(walked, met, client)


@pytest.mark.parametrize("way", [ClientAuthentication.SELF_SIGNED_TLS, ClientAuthentication.TLS])
def test_a_client_with_a_certificate(tmp_path: Path, way: ClientAuthentication) -> None:
    ours, theirs = make_certificate(tmp_path, host="client.test"), make_certificate(tmp_path)
    der = x509.load_pem_x509_certificate(ours.read_bytes()).public_bytes(Encoding.DER)
    jwk = ECKey.import_key(ours.read_bytes()).as_dict(private=False)
    chain = [base64.b64encode(der).decode()]
    registered: dict[str, Any] = (
        {"jwks": {"keys": [{**jwk, "x5c": chain, "use": "sig"}]}}
        if way is ClientAuthentication.SELF_SIGNED_TLS
        else {"tls_client_auth_subject_dn": "CN=test"}
    )
    options = method(way, **registered) | {"tls": str(theirs), "ca": str(ours)}
    with provider(tmp_path, **options) as met:
        client = met.client(
            client_authentication=way,
            client_secret=None,
            certificate=str(ours),
            ca_bundle=str(theirs),
            scope=("openid",),
        )
        anyio.run(walked, met, client)


def test_pkce_is_checked_and_a_wrong_secret_is_told(tmp_path: Path) -> None:
    async def mistake(met: Met) -> None:
        client = met.client(scope=("openid",))
        async with TokenEndpoint() as endpoint:
            wrong = await logged_in(endpoint, client, code_verifier=Secret("x" * 43))
            assert isinstance(wrong, GrantRejected)
            stranger = met.client(scope=("openid",), client_secret=Secret("another"))
            assert isinstance(await logged_in(endpoint, stranger), ClientRejected)

    with provider(tmp_path) as met:
        anyio.run(mistake, met)


def test_its_metadata_are_found_from_the_token_endpoint(tmp_path: Path) -> None:
    async def look(met: Met) -> None:
        async with TokenEndpoint() as endpoint:
            found = await discovered(endpoint, met.client())
        assert found["introspection_endpoint"] == met.introspection
        assert found["revocation_endpoint"] == met.revocation

    with provider(tmp_path) as met:
        anyio.run(look, met)


def test_rotation_with_reuse_detection_is_measured(tmp_path: Path) -> None:
    with provider(tmp_path) as met:
        found = measured(tmp_path, met.settings(scope="openid"), wait="4s")
    assert found["rotation"] == "strict"
    assert value(found, "reuse_kills_grant") is True
    assert value(found, "kills_access_token") is False
    assert value(found, "revoking_refresh_token_kills_access_token") is True
    assert json.loads(found["dead"][0]["body"])["error"] == "invalid_grant"
    assert 'rotation = "strict"' in found["entry"]


def test_a_server_that_does_not_rotate_is_measured(tmp_path: Path) -> None:
    with provider(tmp_path, rotate=False) as met:
        found = measured(tmp_path, met.settings(scope="openid"), wait="4s")
    assert found["rotation"] == "none"
    assert value(found, "rotates") is False
    assert found["logins"] <= 2
