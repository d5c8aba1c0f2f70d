"""A request that is filled in is the one that would have been built."""

from typing import Any

import pytest

from refresher.domain.clients import Client
from refresher.domain.quirks import ClientAuthentication, Placement
from refresher.domain.renewal import RefreshToken
from refresher.domain.secret import Secret
from refresher.oauth import refresh_token
from refresher.oauth.requests import build_request, single
from refresher.oauth.templates import MOST, Templates
from tests.oauth.world import make_client

ODD = "a+b/c=d&e f%41~ü"


def filled(templates: Templates, client: Client, token: str, **asked: Any) -> Any:
    asked = {"scope": (), "redirect_uri": None} | asked
    found = templates.filled(client, RefreshToken(Secret(token)), **asked)
    return None if found is None else (found[0].head.url, found[0].body, found[0].head.headers)


def built(client: Client, token: str, **asked: Any) -> Any:
    asked = {"scope": (), "redirect_uri": None} | asked
    wanted = refresh_token.request(client, RefreshToken(Secret(token)), **asked)
    request = build_request(client, wanted, 1.0)
    return request.head.url, request.body, request.head.headers


@pytest.mark.parametrize("token", ["RT1", ODD])
@pytest.mark.parametrize(
    "told",
    [
        {},
        {"client_authentication": ClientAuthentication.POST},
        {"client_authentication": ClientAuthentication.NONE, "scope_separator": ","},
        {"parameter_names": {"refresh_token": "token"}, "refresh_parameters": {"a": "b c"}},
        {"send_redirect_uri_on_refresh": True, "redirect_uris": ("http://x.example/back",)},
        {"send_scope_on_refresh": True, "refresh_headers": {"X-Api": "1"}},
    ],
    ids=["basic", "post", "none", "names", "redirect uri", "scope"],
)
def test_a_filled_request_is_the_built_one(told: dict[str, Any], token: str) -> None:
    templates, client = Templates(), make_client(**told)

    for scope in ((), ("a", "b")):
        for one in ("other", token):
            found = filled(templates, client, one, scope=scope)
            assert found == built(client, one, scope=scope)


def test_its_parameters_are_those_that_were_asked_for() -> None:
    client, renewal = make_client(), RefreshToken(Secret(ODD))
    asked = refresh_token.request(client, renewal, scope=(), redirect_uri=None)

    found = Templates().filled(client, renewal, scope=(), redirect_uri=None)

    assert found is not None
    assert found[1] == single(asked.parameters)


@pytest.mark.parametrize(
    "told",
    [
        {"client_authentication": ClientAuthentication.PRIVATE_KEY_JWT},
        {"placement": Placement.JSON},
        {"placement": Placement.QUERY},
        {"token_endpoint": "nowhere"},
    ],
    ids=["dated proof", "json", "query", "no URL"],
)
def test_what_is_no_form_with_a_lasting_proof_is_built_by_itself(told: dict[str, Any]) -> None:
    assert filled(Templates(), make_client(**told), "RT1") is None


def test_a_refresh_token_that_no_form_can_carry_is_refused_where_it_is_built() -> None:
    templates, client = Templates(), make_client()

    assert filled(templates, client, "\ud800") is None
    assert filled(templates, client, "RT1") == built(client, "RT1")


def test_a_client_that_has_changed_has_other_requests() -> None:
    templates = Templates()
    filled(templates, make_client(), "RT1")
    changed = make_client("http://127.0.0.1:9/other", client_secret=Secret("another"))

    assert filled(templates, changed, "RT1") == built(changed, "RT1")


def test_so_many_are_kept_and_no_more() -> None:
    templates, client = Templates(), make_client(send_scope_on_refresh=True)

    for number in range(2 * MOST + 1):
        scope = (str(number),)
        assert filled(templates, client, "RT1", scope=scope) == built(client, "RT1", scope=scope)

    assert len(templates._made["app"][1]) <= MOST
