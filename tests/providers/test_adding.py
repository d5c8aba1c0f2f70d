"""Whoever follows ``refresher/providers/README.md`` has a provider that works."""

import re
from pathlib import Path

import pytest

import refresher.providers
from refresher.oauth.responses import classify
from refresher.providers import find_provider, provider_names, read_entry
from refresher.providers.lines import settings_lines
from refresher.settings import load
from tests.providers.checks import faults
from tests.providers.test_catalogue import MEANT, client_of

PAGE = Path(refresher.providers.__file__).with_name("README.md")


@pytest.fixture
def entry_of_the_page() -> str:
    (entry,) = re.findall(r"```toml-entry\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return str(entry)


def test_the_entry_of_the_page_can_be_used_once_it_is_in_the_folder(
    entry_of_the_page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "catalogue"
    folder.mkdir()
    (folder / "acme.toml").write_text(entry_of_the_page)
    monkeypatch.setattr(refresher.providers, "_FOLDER", folder)
    provider_names.cache_clear()
    find_provider.cache_clear()
    try:
        assert provider_names() == ("acme",)
        acme = find_provider("acme")
        assert acme is not None
        assert faults(acme) == []
        filled_in = "\n".join(settings_lines(acme)).replace('"..."', '"id"')
        secret, settings = tmp_path / "acme.secret", tmp_path / "refresher.toml"
        for file, text in ((secret, "s3cret"), (settings, filled_in)):
            file.write_text(text)
            file.chmod(0o600)
        loaded = load(settings, environment={})
    finally:
        monkeypatch.undo()
        provider_names.cache_clear()
        find_provider.cache_clear()
    client = loaded.settings.clients["acme"]
    assert loaded.warnings == ()
    assert client.endpoints.token == "https://books.acme.example/token"
    assert str(client.quirks.rotation) == "grace(30)"
    assert client.quirks.default_expires_in == 3600


def test_its_recorded_answer_means_what_it_says(entry_of_the_page: str) -> None:
    acme = read_entry("acme", entry_of_the_page)
    (answer,) = acme.facts.answers or ()
    outcome = classify(answer.status, {}, answer.body.encode(), client_of(acme), 0.0)
    assert isinstance(outcome, MEANT[answer.means])


def test_the_page_names_every_key_of_the_first_lines_and_every_table() -> None:
    text = PAGE.read_text()
    for key in ("console", "notes", "needs", "scopes", "tested"):
        assert f"`{key}`" in text
    for table in ("variables", "settings", "revocation", "facts", "sources"):
        assert f"| `{table}` |" in text
