"""What a client proves itself with: keys, certificates, and what is missing or idle."""

from pathlib import Path

import pytest

from tests.oauth.world import make_certificate
from tests.settings.conftest import CLIENT, Bench

BARE = CLIENT.replace('client_secret = "acme-secret"', "")
KEY = "-----BEGIN PRIVATE KEY-----\\nMC4CAQAwBQYDK2VwBCIEIA==\\n-----END PRIVATE KEY-----"
JWT = f'{BARE}client_authentication = "private_key_jwt"\n'
TLS = f'{BARE}client_authentication = "tls_client_auth"\n'


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        (BARE, "client_secret", "is missing"),
        (JWT, "client_private_key", "is missing"),
        (TLS, "client_certificate", "is missing"),
        (f'{JWT}client_private_key = "no key"\n', "client_private_key", "PEM form"),
        (
            f'{JWT}client_private_key = "{KEY}"\nassertion_audience = "issuer"\n',
            *("issuer", "is missing"),
        ),
        (
            f'{JWT}client_private_key = "{KEY}"\nclient_secret = "s"\n',
            *("client_secret", "take one of the two away"),
        ),
        (f'{TLS}client_certificate = "none.pem"\n', "client_certificate", "none.pem"),
    ],
)
def test_what_is_missing_or_no_key_is_told(bench: Bench, text: str, key: str, said: str) -> None:
    [problem] = bench.problems(text)
    assert problem.startswith(f"clients.acme.{key}") or f"clients.acme.{key}" in problem
    assert said in problem
    assert "no key" not in problem


def test_keys_and_certificates_are_read(bench: Bench, tmp_path: Path) -> None:
    bench.write("acme.key", KEY.replace("\\n", "\n"))
    text = f'{JWT}client_private_key = {{ file = "acme.key" }}\nclient_key_id = "k1"\n'
    known = bench.load(text).settings.clients["acme"].authentication
    assert known.private_key is not None
    assert known.private_key.reveal().startswith("-----BEGIN")
    assert known.key_id == "k1"
    pem = make_certificate(tmp_path)
    pem.chmod(0o600)
    text = f'{TLS}client_certificate = "{pem.name}"\n'
    known = bench.load(text).settings.clients["acme"].authentication
    assert (known.certificate, known.certificate_key) == (str(pem), None)


def test_what_has_no_effect_is_told(bench: Bench) -> None:
    warnings = bench.load(f'{CLIENT}client_key_id = "k1"\n').warnings
    assert any("client_key_id" in line and "no effect" in line for line in warnings)
