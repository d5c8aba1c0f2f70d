"""Which account authorized, as an ID token says it."""

import base64
import json
from typing import Any

import pytest

from refresher.domain.outcomes import Refreshed, ResourceOwner
from refresher.oauth.id_token import LONGEST_NAME, read_resource_owner
from refresher.oauth.responses import classify
from tests.oauth.world import make_client

CLIENT = make_client()


def id_token(**claims: Any) -> str:
    payload = base64.urlsafe_b64encode(json.dumps({"aud": "id", **claims}).encode()).decode()
    return f"eyJhbGciOiJSUzI1NiJ9.{payload.rstrip('=')}.c2lnbmF0dXJl"


def owner(**claims: Any) -> ResourceOwner | None:
    return read_resource_owner({"id_token": id_token(**claims)}, CLIENT)


@pytest.mark.parametrize(
    ("claims", "name", "subject"),
    [
        ({"sub": "42", "email": "a@b.example", "name": "A"}, "a@b.example", "42"),
        ({"sub": "42", "preferred_username": "ann", "name": "A"}, "ann", "42"),
        ({"sub": "42", "name": "Ann \u00d6", "email": ""}, "Ann \u00d6", "42"),
        ({"sub": "42", "email": None, "name": 7}, "42", "42"),
        ({"email": "a@b.example"}, "a@b.example", None),
        ({"aud": ["other", "id"], "sub": "42"}, "42", "42"),
    ],
)
def test_the_clearest_name_is_taken(claims: dict[str, Any], name: str, subject: str | None) -> None:
    assert owner(**claims) == ResourceOwner(name=name, subject=subject)


@pytest.mark.parametrize("claims", [{}, {"sub": ""}, {"sub": 7}, {"aud": "other", "sub": "42"}])
def test_nobody_is_named_where_nobody_is(claims: dict[str, Any]) -> None:
    assert owner(**claims) is None


@pytest.mark.parametrize(
    "value", [None, 7, "", "a.b.c", "e30", "e30.e30.", ["x"], "\ud800.\ud800.x"]
)
def test_what_is_no_id_token_names_nobody(value: object) -> None:
    assert read_resource_owner({"id_token": value}, CLIENT) is None


def test_a_name_is_plain_text_of_a_bearable_length() -> None:
    assert owner(sub="1", email="a\x1b[31m\n\ud800b") == ResourceOwner(name="a[31mb", subject="1")
    told = owner(sub="x" * 9999)
    assert told is not None
    assert len(told.name) == LONGEST_NAME


def test_an_answer_with_an_id_token_tells_who_authorized() -> None:
    token = id_token(sub="42", email="a@b.example")
    body = json.dumps({"access_token": "AT", "id_token": token}).encode()
    outcome = classify(200, {}, body, CLIENT, 1.8e9)
    assert isinstance(outcome, Refreshed)
    assert outcome.answer.resource_owner == ResourceOwner(name="a@b.example", subject="42")
    assert token not in repr(outcome)
    assert "a@b.example" not in repr(outcome)
