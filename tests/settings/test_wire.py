"""Names on the wire that cannot be meant: each has a line that names the way out."""

import pytest

from tests.settings.conftest import CLIENT, Bench

URIS = 'redirect_uris = ["https://app.example/callback"]\n'


@pytest.mark.parametrize(
    ("line", "key", "said"),
    [
        ('refresh_parameters = { grant_type = "x" }', "refresh_parameters.grant_type", "daemon"),
        ('code_parameters = { api_key = "x" }', "code_parameters.api_key", "sounds like a secret"),
        ('token_headers = { Authorization = "x" }', "token_headers.Authorization", "daemon"),
        ('refresh_headers = { Content-Type = "x" }', "refresh_headers.Content-Type", "daemon"),
        ('code_headers = { X-Api-Key = "x" }', "code_headers.X-Api-Key", "sounds like a secret"),
        ('token_headers = { "a b" = "x" }', 'token_headers."a b"', "no name of a header"),
        ('token_headers = { A = "x\\r\\nB: y" }', "token_headers.A", "no header has"),
        ('parameter_names = { redirect_uri = "x" }', "parameter_names.redirect_uri", "key of its"),
        ('parameter_names = { scopes = "x" }', "parameter_names.scopes", "no parameter of"),
        ('parameter_names = { code = "x", scope = "x" }', "parameter_names", "its own"),
        ('answer_names = { token = "x" }', "answer_names.token", "no field of the standard"),
        ('callback_extras = ["state"]', "callback_extras", "secret of the login"),
        ('refresh_endpoint = "http://x.example/"', "refresh_endpoint", "https"),
    ],
)
def test_a_name_that_cannot_be_meant(bench: Bench, line: str, key: str, said: str) -> None:
    [problem] = bench.problems(f"{CLIENT}{URIS}{line}\n")
    assert f"clients.acme.{key}" in problem
    assert said in problem


@pytest.mark.parametrize("key", ["extras", "callback_extras"])
def test_what_is_published_anyway(bench: Bench, key: str) -> None:
    [warning] = bench.load(f'{CLIENT}{URIS}{key} = ["version"]\n').warnings
    assert "published anyway" in warning


def test_a_default_life_beside_no_expiry(bench: Bench) -> None:
    text = f"{CLIENT}no_expiry = true\ndefault_expires_in = 900\n"
    [warning] = bench.load(text).warnings
    assert "default_expires_in" in warning
    assert "no_expiry" in warning
