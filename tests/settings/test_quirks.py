"""A quirk is declared once: the settings, the catalogue and the client have it from there."""

from typing import Any

import pytest

from refresher.domain.clients import Policy
from refresher.domain.quirks import Quirks, keys
from refresher.providers import read_entry
from refresher.providers.entries import TOLD_BY_FACTS
from refresher.settings.describe import describe
from tests.settings.conftest import CLIENT, Bench

KEYS = keys(Quirks)

ENTRY = """
title = "Acme"
documentation = "https://acme.example/oauth"
console = "Ask Acme."
"""

VALUES: dict[str, tuple[str, Any]] = {
    "client_authentication": ('"client_secret_post"', "client_secret_post"),
    "assertion_algorithm": ('"ES256"', "ES256"),
    "assertion_audience": ('"issuer"', "issuer"),
    "assertion_placement": ('"bearer"', "bearer"),
    "placement": ('"query"', "query"),
    "refresh_placement": ('"json"', "json"),
    "parameter_names": ('{ code = "word" }', {"code": "word"}),
    "answer_names": ('{ scope = "word" }', {"scope": "word"}),
    "expires_in_unit": ('"milliseconds"', "milliseconds"),
    "rotation": ('"strict"', "strict"),
}
"""A value of each quirk that has few to choose from: as TOML, and as text."""


def value_of(name: str, default: Any) -> tuple[str, Any]:
    """Some value that is not the default, as TOML and as it is told."""
    if name in VALUES:
        return VALUES[name]
    match default:
        case bool():
            return str(not default).lower(), not default
        case None | float():
            return "77.0", 77.0
        case tuple():
            return '["word"]', ("word",)
        case dict():
            return '{ name = "word" }', {"name": "word"}
        case _:
            return '"word"', "word"


@pytest.mark.parametrize("key", KEYS, ids=[key.name for key in KEYS])
def test_settings_and_catalogue_take_every_quirk(bench: Bench, key: Any) -> None:
    written, told = value_of(key.name, key.default)
    section = CLIENT + 'redirect_uris = ["https://app.example/callback"]'
    client = bench.load(f"{section}\n{key.name} = {written}").settings.clients["acme"]
    table = "facts" if key.name in TOLD_BY_FACTS else "settings"
    endpoint = 'settings.token_endpoint = "https://acme.example/token"'
    entry = read_entry("acme", f"{ENTRY}{endpoint}\n{table}.{key.name} = {written}")
    for found in (getattr(client.quirks, key.name), entry.defaults[key.name]):
        assert (str(found) if isinstance(told, str) else found) == told


def test_the_settings_table_says_what_the_declaration_says() -> None:
    told = {line.key: line.description for line in describe()}
    for key in (*KEYS, *keys(Policy)):
        assert told[f"clients.NAME.{key.name}"] == key.description
