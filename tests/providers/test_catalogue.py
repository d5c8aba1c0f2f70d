"""The catalogue says what the provider's documentation says, in known fields only."""

import tomllib
from importlib import resources
from typing import Any

import pytest
from pydantic import ValidationError

from refresher.domain.clients import Revocation
from refresher.domain.grants import is_valid_name
from refresher.domain.quirks import ClientAuthentication, Placement, Quirks, RotationProfile, keys
from refresher.providers import Provider, RevocationEntry, providers

CATALOGUE: dict[str, dict[str, Any]] = tomllib.loads(
    resources.files("refresher.providers").joinpath("catalogue.toml").read_text("utf-8")
)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_key_is_a_known_field(name: str) -> None:
    entry = CATALOGUE[name]
    quirks = {key.name for key in keys(Quirks)}
    assert set(entry) <= (set(Provider.model_fields) | quirks) - {"name", "quirks"}
    assert set(entry.get("revocation", {})) <= set(RevocationEntry.model_fields)


def test_an_unknown_key_is_refused() -> None:
    entry = CATALOGUE["survilla"] | {"rotates": True}
    with pytest.raises(ValidationError, match="rotates"):
        Provider(name="survilla", **entry)


def test_the_catalogue_has_every_entry() -> None:
    assert set(providers()) == set(CATALOGUE)
    assert all(is_valid_name(name) and name == providers()[name].name for name in providers())


def test_the_catalogue_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        providers()["other"] = providers()["survilla"]  # type: ignore[index]  # that is the point


def test_survilla_sends_everything_in_the_query() -> None:
    survilla = providers()["survilla"]
    assert survilla.needs_base_url
    assert survilla.authorization_endpoint == "/oauth2/auth"
    assert survilla.token_endpoint == "/oauth2/token"
    assert survilla.quirks.placement is Placement.QUERY
    assert survilla.quirks.client_authentication is ClientAuthentication.POST
    assert survilla.quirks.scope_separator == ","
    assert survilla.quirks.rotation.profile is RotationProfile.UNKNOWN
    assert not survilla.quirks.pkce
    assert not survilla.quirks.send_redirect_uri_on_refresh
    assert {"read", "liveview_ptz", "events"} < set(survilla.scopes)


def test_survilla_revokes_by_access_token_alone() -> None:
    entry = providers()["survilla"].revocation
    assert entry is not None
    assert entry.at("https://portal.example/oauth2/revoke") == Revocation(
        endpoint="https://portal.example/oauth2/revoke",
        parameter="access_token",
        token="access_token",
        placement=Placement.QUERY,
        authenticated=False,
        success_field="success",
    )
