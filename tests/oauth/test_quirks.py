"""What quirks do on the wire and to an answer, where a whole daemon would show less."""

import asyncio
import json
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

import pytest

from refresher.domain.outcomes import OutcomeUnknown, Refreshed, Transient
from refresher.domain.quirks import ClientAuthentication, Placement
from refresher.domain.renewal import RefreshToken
from refresher.domain.secret import Secret
from refresher.oauth.answers import LONGEST_EXTRA, read_answer
from refresher.oauth.patience import Patience
from refresher.oauth.responses import classify
from refresher.oauth.shapes import at, shaped
from refresher.oauth.token_endpoint import TokenEndpoint
from tests.oauth.world import (
    CANARIES,
    CLIENT_SECRET,
    REFRESH_TOKEN,
    TOKENS,
    RawServer,
    answering,
    http_answer,
    make_client,
    refreshed,
    serving,
)

NOW = 1_800_000_000.0


async def test_a_refresh_by_get_is_never_sent_twice() -> None:
    """The HTTP library sends a GET again by itself when a used connection breaks."""

    async def handle(
        raw: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await raw.read_request(reader)
        writer.write(http_answer(TOKENS))
        await writer.drain()
        await raw.read_request(reader)

    async with serving(handle) as raw, TokenEndpoint() as endpoint:
        client = make_client(raw.url, placement=Placement.GET)
        first = await endpoint.refresh(client, RefreshToken(Secret("RT1")), patience=Patience(5))
        second = await endpoint.refresh(client, RefreshToken(Secret("RT2")), patience=Patience(5))

    assert isinstance(first, Refreshed)
    assert second == OutcomeUnknown(reason="disconnected")
    assert [b"RT2" in request for request in raw.requests] == [False, True]
    assert raw.requests[1].startswith(b"GET ")


async def test_a_redirect_of_a_get_is_not_followed() -> None:
    moved = http_answer(b"", 302, {"Location": "/elsewhere"})
    async with answering(moved) as raw:
        await refreshed(raw.url, placement=Placement.GET)
    assert len(raw.requests) == 1


async def test_a_json_request_has_its_type() -> None:
    async with answering(http_answer(TOKENS)) as raw:
        await refreshed(raw.url, placement=Placement.JSON)
    _, headers, body = raw.last
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == {"grant_type": "refresh_token", "refresh_token": REFRESH_TOKEN}


async def test_what_goes_into_a_url_shows_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    async with answering(http_answer(b"", 500)) as raw:
        outcome = await refreshed(raw.url, placement=Placement.GET)
    assert not any(canary in f"{outcome!r}{caplog.text}" for canary in CANARIES)


@pytest.mark.parametrize(
    ("path", "found"),
    [("a", {"b": {"c": 1}}), ("a.b.c", 1), ("a.b.x", None), ("a.b.c.d", None), ("x.y", 2)],
)
def test_a_path_leads_into_objects(path: str, found: object) -> None:
    assert at({"a": {"b": {"c": 1}}, "x.y": 2}, path) == found


def test_the_tokens_around_a_nested_answer_are_another_ones() -> None:
    quirks = make_client(answer_path="authed_user").quirks
    fields = {"access_token": "bot", "refresh_token": "bots", "authed_user": {"id": "U1"}, "ok": 1}
    assert shaped(fields, quirks) == {"id": "U1", "ok": 1, "authed_user": {"id": "U1"}}
    assert shaped(TOKENS, quirks) == TOKENS, "an answer without that object is the standard's"


def test_a_search_takes_nothing_from_around_a_nested_answer() -> None:
    body = b'{"access_token": "bot", "refresh_token": "bots", "authed_user": {"id": "U1"}}'
    outcome = classify(200, {}, body, make_client(answer_path="authed_user"), NOW)
    assert isinstance(outcome, OutcomeUnknown)
    assert outcome.may_hold_tokens, "it is kept all the same"


@pytest.mark.parametrize(
    "value",
    [
        "x" * (LONGEST_EXTRA + 1),
        f"with {CLIENT_SECRET}",
        REFRESH_TOKEN,
        "new-refresh",
        {"a": "new-refresh"},
    ],
    ids=["too long", "client secret", "presented", "new", "inside"],
)
def test_a_field_that_is_too_long_or_secret_is_not_published(value: Any) -> None:
    fields = {"access_token": "AT", "refresh_token": "new-refresh", "extra": value, "fit": "yes"}
    client = make_client(extras=("extra", "fit"))
    answer = read_answer(fields, client, NOW, sent={"refresh_token": REFRESH_TOKEN})
    assert answer.extras == {"fit": "yes"}
    assert len(answer.warnings) == 1


def test_a_success_code_is_no_error() -> None:
    client = make_client(error_field="result", success_codes=("0000",))
    told = classify(200, {}, b'{"result": "0000", "access_token": "AT"}', client, NOW)
    assert isinstance(told, Refreshed)
    assert told.answer.warnings == ()
    silent = classify(200, {}, b'{"result": "0000", "message": "OK"}', client, NOW)
    assert isinstance(silent, OutcomeUnknown), "neither tokens nor an error"


def test_at_work_beats_dead() -> None:
    client = make_client(in_progress_codes=("busy",), rejection_codes=("busy",))
    outcome = classify(400, {}, b'{"error": "busy"}', client, NOW)
    assert outcome == Transient(reason="being_processed", status=400)


LIVE: dict[str, Any] = {
    "renews_with_access_token": True,
    "parameter_names": {"refresh_token": "access_token"},
    "refresh_grant_type": "ig_refresh_token",
    "exchange_grant_type": "ig_exchange_token",
    "authenticate_refresh": False,
}


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_live_token_is_exchanged_with_the_secret_and_renewed_alone(
    *, is_first: bool
) -> None:
    async with answering(http_answer(TOKENS)) as raw, TokenEndpoint() as endpoint:
        client = make_client(
            raw.url, client_authentication=ClientAuthentication.POST, client_id="app", **LIVE
        )
        endpoints = replace(client.endpoints, refresh=f"{raw.url}/r", exchange=f"{raw.url}/x")
        client = replace(client, endpoints=endpoints)
        renewal = RefreshToken(Secret("AT1"), is_first=is_first)
        await endpoint.refresh(client, renewal, patience=Patience(5))
    head, _, body = raw.requests[-1].decode().partition("\r\n\r\n")
    sent = {name: value for name, (value,) in parse_qs(body).items()}
    if is_first:
        own = {"client_id": "app", "client_secret": CLIENT_SECRET}
        assert sent == {"grant_type": "ig_exchange_token", "access_token": "AT1", **own}
    else:
        assert sent == {"grant_type": "ig_refresh_token", "access_token": "AT1"}
    assert head.partition(" HTTP")[0].endswith("/x" if is_first else "/r")


@pytest.mark.parametrize(
    ("fields", "presented", "kept"),
    [
        ({"access_token": "A" * 30}, "B" * 30, "A" * 30),
        ({"access_token": "A" * 30, "refresh_token": "C" * 30}, "B" * 30, "A" * 30),
        ({"access_token": "B" * 30}, "B" * 30, None),
    ],
    ids=["another", "beside a refresh token", "the same again"],
)
def test_the_access_token_is_what_renews_the_grant(
    fields: dict[str, str], presented: str, kept: str | None
) -> None:
    body = json.dumps({**fields, "token_type": "bearer", "expires_in": 5_183_944}).encode()
    client = make_client(renews_with_access_token=True)
    outcome = classify(200, {}, body, client, NOW, sent={"refresh_token": presented})
    assert isinstance(outcome, Refreshed)
    found = outcome.answer.refresh_token
    assert (None if found is None else found.reveal()) == kept
    assert outcome.answer.access_token == Secret(fields["access_token"])
    assert outcome.answer.warnings == ()
