"""``refresher providers`` tells a person everything, in 80 columns and without the network."""

import json
import re
import socket
from typing import Any

import pytest
from click.testing import CliRunner, Result

from refresher.cli.entry import cli
from refresher.providers import all_providers, provider_names

URL = re.compile(r"https://\S+")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["providers", *arguments])


def shown(*arguments: str) -> str:
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return done.output


def as_json(*arguments: str) -> Any:
    return json.loads(shown(*arguments, "--json"))


def test_the_list_has_a_line_for_each_and_fits_a_terminal() -> None:
    lines = shown().splitlines()
    assert [line.split()[0] for line in lines[1:-2]] == list(provider_names())
    assert max(map(len, lines)) < 80
    row = {line.split()[0]: re.split(r" {2,}", line)[2:] for line in lines[1:-2]}
    assert row["xero"] == ["grace(1800)", "-"]
    assert row["zoho"] == ["none", "region"]
    assert row["okta"] == ["varies", "base_url"]
    assert row["coros"] == ["none", "not yet: answer_w..."]
    assert row["make"] == ["-", "token_endpoint"]


@pytest.mark.parametrize("name", provider_names())
def test_one_fits_a_terminal_but_for_long_urls(name: str) -> None:
    lines = shown(name).splitlines()
    assert [line for line in lines if len(line) >= 80 and not URL.search(line)] == []


def test_everything_about_one_is_told() -> None:
    text = shown("xero")
    for line in (
        '  provider = "xero"',
        '  client_secret = { file = "xero.secret" }',
        "  token_endpoint          https://identity.xero.com/connect/token [3]",
        "  rotation                grace(1800): the used one works for 30 min [2]",
        "  access token lives      30 min [2]",
        "  refresh token, unused   60 d [2]",
        "  scope that is added     offline_access [3]",
        "  [2] https://developer.xero.com/faq/oauth2",
        "      read 2026-11-26",
    ):
        assert line in text.splitlines()
    assert "At the provider:\n  developer.xero.com, My Apps, New app" in text
    assert "Traps:\n  - API calls want the header xero-tenant-id" in text


def test_what_nobody_verified_is_marked() -> None:
    assert "  rotation                " not in shown("fitbit")
    assert "  client_authentication   client_secret_basic [not verified]" in shown("xero")
    assert "      others, read " in shown("xero")


def test_what_a_provider_lacks_stands_first() -> None:
    head = " ".join(shown("wahoo").split("Paste")[0].split())
    assert "Does not work yet. It wants: renewal_on_use, renewal only for tokens that are" in head


@pytest.mark.parametrize(
    ("name", "told"),
    [("xro", "did you mean xero?"), ("Google", "did you mean google?"), ("?", "lists it")],
)
def test_an_unknown_name_is_a_wrong_use(name: str, told: str) -> None:
    done = run(name)
    assert done.exit_code == 2
    assert f"{name} is not in the catalogue" in done.output
    assert told in done.output


def test_json_has_every_statement_and_whether_it_is_verified() -> None:
    catalogue = as_json()
    assert list(catalogue) == list(provider_names())
    for entry in all_providers():
        told = catalogue[entry.name]
        assert set(told["verified"]) == set(entry.statements)
        assert told["lines"][0] == f"[clients.{entry.name}]"
    xero = as_json("xero")
    assert xero == catalogue["xero"]
    assert xero["facts"]["rotation"] == "grace(1800)"
    assert xero["facts"]["access_token_lifetime"] == 1800
    assert xero["verified"]["rotation"] is True
    assert xero["verified"]["client_authentication"] is False
