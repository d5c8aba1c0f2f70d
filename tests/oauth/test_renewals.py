"""What each kind of grant sends, and how a device code comes to be."""

import json
from typing import Any
from urllib.parse import parse_qs

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from refresher.domain.clients import Client
from refresher.domain.outcomes import (
    ClientRejected,
    GrantRejected,
    NotSent,
    Outcome,
    Refreshed,
    RequestRejected,
    SubjectMissing,
    Transient,
)
from refresher.domain.quirks import AssertionPlacement, ClientAuthentication, Placement
from refresher.domain.renewal import (
    Assertion,
    ClientCredentials,
    Renewal,
    SubjectToken,
    SubjectTokenType,
    Terms,
)
from refresher.domain.secret import Secret
from refresher.errors import AuthorizationFailed
from refresher.oauth.assertion import BEHIND, LIVES
from refresher.oauth.device_authorization import begin, explained, next_interval
from refresher.oauth.patience import Patience
from refresher.oauth.token_endpoint import TokenEndpoint
from tests.oauth.world import RawServer, answering, http_answer, make_client
from tests.support.signing import key_pair, service_account
from tests.vault.world import FakeClock

NOW = 1_800_000_000.0
URN = "urn:ietf:params:oauth:grant-type:"
TOKEN = {"access_token": "AT", "expires_in": 3600}
NONE = ClientAuthentication.NONE


async def sent(
    renewal: Renewal, scope: tuple[str, ...] = (), *, path: str = "", **told: Any
) -> tuple[str, dict[str, list[str]]]:
    """The head and the form of the request that presents RENEWAL."""
    async with answering(http_answer(TOKEN)) as raw, TokenEndpoint(FakeClock(NOW)) as endpoint:
        client = make_client(raw.url + path, client_id="app", **told)
        outcome = await endpoint.refresh(client, renewal, scope=scope, patience=Patience(5))
        assert isinstance(outcome, Refreshed)
        return split(raw)


def split(raw: RawServer) -> tuple[str, dict[str, list[str]]]:
    head, _, body = raw.requests[-1].decode().partition("\r\n\r\n")
    return head, parse_qs(body)


def claims_of(assertion: str) -> dict[str, Any]:
    return jwt.decode(assertion, RSAKey.import_key(key_pair()[1]), algorithms=["RS256"]).claims


async def test_client_credentials_ask_for_scope_audience_and_resource() -> None:
    terms = Terms(audience=("https://api.example",), resource=("https://r.example/a", "urn:b"))
    head, form = await sent(ClientCredentials(terms), ("read", "write"))
    assert form == {
        "grant_type": ["client_credentials"],
        "scope": ["read write"],
        "audience": ["https://api.example"],
        "resource": ["https://r.example/a", "urn:b"],
    }
    assert "Authorization: Basic" in head


async def test_several_values_are_a_list_in_json() -> None:
    async with answering(http_answer(TOKEN)) as raw, TokenEndpoint() as endpoint:
        client = make_client(raw.url, placement=Placement.JSON)
        terms = Terms(resource=("a", "b"))
        await endpoint.refresh(client, ClientCredentials(terms), patience=Patience(5))
    body = json.loads(raw.requests[-1].decode().partition("\r\n\r\n")[2])
    assert body["resource"] == ["a", "b"]


async def test_an_assertion_is_all_that_a_client_without_a_secret_sends() -> None:
    told: dict[str, Any] = {"private_key": Secret(key_pair()[0]), "client_secret": None}
    terms = Terms(subject="user@example")
    _, form = await sent(Assertion(terms), ("a", "b"), client_authentication=NONE, **told)
    assert form.keys() == {"grant_type", "assertion", "scope"}
    assert form["grant_type"] == [URN + "jwt-bearer"]
    claims = claims_of(form["assertion"][0])
    assert (claims["iss"], claims["sub"], claims["scope"]) == ("app", "user@example", "a b")
    assert (claims["iat"], claims["exp"]) == (NOW - BEHIND, NOW - BEHIND + LIVES)
    assert claims["aud"].endswith("/token")


async def test_a_client_with_a_secret_proves_itself_beside_the_assertion() -> None:
    head, form = await sent(Assertion(Terms()), private_key=Secret(key_pair()[0]))
    assert "Authorization: Basic" in head
    assert claims_of(form["assertion"][0])["sub"] == "app"


async def test_every_assertion_is_another_one() -> None:
    key = Secret(key_pair()[0])
    forms = [await sent(Assertion(Terms()), private_key=key) for _ in range(2)]
    assert len({claims_of(form["assertion"][0])["jti"] for _, form in forms}) == 2


async def test_claims_can_be_changed_and_left_out() -> None:
    changed = {"aud": "audience", "sub": "", "box_sub_type": "enterprise"}
    key = Secret(key_pair()[0])
    _, form = await sent(Assertion(Terms()), private_key=key, assertion_claims=changed)
    claims = claims_of(form["assertion"][0])
    assert (claims["aud"], claims["box_sub_type"]) == ("audience", "enterprise")
    assert "sub" not in claims


async def test_the_key_may_stand_in_the_file_of_a_service_account() -> None:
    file = service_account("app", "https://unused.example")
    _, form = await sent(Assertion(Terms()), private_key=Secret(file))
    header = jwt.decode(form["assertion"][0], RSAKey.import_key(key_pair()[1])).header
    assert header["kid"] == "kid-1"


async def test_an_installation_stands_in_the_url_and_the_assertion_in_the_header() -> None:
    head, form = await sent(
        Assertion(Terms(subject="12/3")),
        path="/{subject}/tokens",
        private_key=Secret(key_pair()[0]),
        assertion_placement=AssertionPlacement.BEARER,
    )
    assert form == {}
    assert "/12%2F3/tokens HTTP" in head
    [bearer] = [line for line in head.splitlines() if line.startswith("Authorization: Bearer ")]
    assert claims_of(bearer.removeprefix("Authorization: Bearer "))["sub"] == "app"


async def test_a_key_that_cannot_sign_sends_nothing() -> None:
    async with answering(http_answer(TOKEN)) as raw, TokenEndpoint() as endpoint:
        client = make_client(raw.url, private_key=Secret("canary"))
        outcome = await endpoint.refresh(client, Assertion(Terms()), patience=Patience(5))
    assert outcome == NotSent(reason="client_private_key")
    assert raw.connections == 0


async def test_an_exchange_presents_the_token_of_its_subject() -> None:
    terms = Terms(subject="user", audience=("a", "b"))
    _, form = await sent(SubjectToken(Secret("THEIRS"), terms))
    assert form == {
        "grant_type": [URN + "token-exchange"],
        "subject_token": ["THEIRS"],
        "subject_token_type": ["urn:ietf:params:oauth:token-type:access_token"],
        "audience": ["a", "b"],
    }
    refresh = Terms(subject_token=SubjectTokenType.REFRESH_TOKEN)
    _, form = await sent(SubjectToken(Secret("RT"), refresh))
    assert form["subject_token_type"] == ["urn:ietf:params:oauth:token-type:refresh_token"]


async def test_nobody_is_asked_while_the_subject_has_no_token() -> None:
    async with answering(http_answer(TOKEN)) as raw, TokenEndpoint() as endpoint:
        renewal = SubjectToken(None, Terms(subject="user"))
        outcome = await endpoint.refresh(make_client(raw.url), renewal, patience=Patience(5))
    assert outcome == SubjectMissing(subject="user")
    assert raw.connections == 0


DEVICE = {
    "device_code": "canary-DC",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://s.example/device",
    "expires_in": 1800,
    "interval": 7,
}


def device_client(url: str | None, **told: Any) -> Client:
    return make_client(device_authorization=url, client_id="app", **told)


async def test_a_device_code_is_asked_for_with_the_scope() -> None:
    async with answering(http_answer(DEVICE)) as raw, TokenEndpoint() as endpoint:
        client = device_client(
            raw.url, authorization_parameters={"audience": "api"}, client_authentication=NONE
        )
        asked = await begin(endpoint, client, ("read",))
        _, form = split(raw)
    assert form == {"client_id": ["app"], "scope": ["read"], "audience": ["api"]}
    assert (asked.user_code, asked.verification_uri) == ("WDJB-MJHT", "https://s.example/device")
    assert (asked.expires_in, asked.interval, asked.verification_uri_complete) == (1800, 7, None)
    assert "canary" not in repr(asked)


async def test_the_older_name_and_what_is_not_told_are_understood() -> None:
    told = {"device_code": "d", "user_code": "u", "verification_url": "https://g.example/device"}
    async with answering(http_answer(told)) as raw, TokenEndpoint() as endpoint:
        asked = await begin(endpoint, device_client(raw.url), ())
    assert (asked.verification_uri, asked.interval) == ("https://g.example/device", 5)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (http_answer({"error": "invalid_client"}, 401), "invalid_client"),
        (http_answer(b"<html>", 404), "http_404"),
        (http_answer({"user_code": "u"}), "http_200"),
    ],
)
async def test_a_server_that_makes_no_code_is_told(answer: bytes, said: str) -> None:
    async with answering(answer) as raw, TokenEndpoint() as endpoint:
        with pytest.raises(AuthorizationFailed, match=said):
            await begin(endpoint, device_client(raw.url), ())


async def test_a_device_endpoint_that_is_away_or_missing_is_told() -> None:
    async with TokenEndpoint() as endpoint:
        with pytest.raises(AuthorizationFailed, match=r"cannot be reached \(refused\)"):
            await begin(endpoint, device_client("http://127.0.0.1:9/device"), ())
        with pytest.raises(AuthorizationFailed, match="no device_authorization_endpoint"):
            await begin(endpoint, device_client(None), ())


@pytest.mark.parametrize(
    ("outcome", "wait"),
    [
        (Transient(reason="authorization_pending", status=400), 5),
        (Transient(reason="slow_down", status=400), 10),
        (Transient(reason="http_429", status=429, retry_after=30), 30),
        (NotSent(reason="refused"), 5),
        (RequestRejected(error="expired_token", status=400), None),
        (ClientRejected(error="access_denied", status=400), None),
    ],
)
def test_a_poll_says_when_the_next_one_may_be(outcome: Outcome, wait: float | None) -> None:
    assert next_interval(outcome, 5) == wait


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (RequestRejected(error="expired_token", status=400), "has expired"),
        (ClientRejected(error="access_denied", status=403), "refused the access"),
        (GrantRejected(error="invalid_grant", status=400), "does not know the device code"),
    ],
)
def test_an_end_without_tokens_is_explained(outcome: Outcome, said: str) -> None:
    assert said in str(explained(outcome))
