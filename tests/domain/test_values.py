"""The words: names, rotation profiles, secrets, repairs."""

import copy
import pickle
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresher.domain.grants import Grant, GrantKind, is_valid_name
from refresher.domain.quirks import Rotation, RotationProfile
from refresher.domain.secret import Secret

ALLOWED = "ABCXYZabcxyz0189._:@+-"


@given(st.text(ALLOWED, min_size=1, max_size=128))
def test_allowed_characters_make_a_name(name: str) -> None:
    assert is_valid_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "a" * 129, "a b", "a\n", "a/b", "a{b}", "a*", "a\x00", "é", "a#b", "٣"],
    ids=repr,
)
def test_everything_else_is_no_name(name: str) -> None:
    """Names go into keys, channels and ACL patterns: no slash, brace, star or line end."""
    assert not is_valid_name(name)


@pytest.mark.parametrize(
    ("text", "rotation"),
    [
        ("none", Rotation(RotationProfile.NONE)),
        ("until_used", Rotation(RotationProfile.UNTIL_USED)),
        ("strict", Rotation(RotationProfile.STRICT)),
        ("unknown", Rotation(RotationProfile.UNKNOWN)),
        ("grace(30)", Rotation(RotationProfile.GRACE, 30.0)),
        ("grace(0.5)", Rotation(RotationProfile.GRACE, 0.5)),
    ],
)
def test_rotation_profiles_are_read_and_written(text: str, rotation: Rotation) -> None:
    assert Rotation.parse(text) == rotation
    assert str(rotation) == text


@pytest.mark.parametrize(
    "text", ["", "grace", "grace()", "grace(-1)", "grace(1e3)", "grace(30) ", "Strict", "never"]
)
def test_other_rotation_profiles_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"use none, grace\(SECONDS\), until_used, strict or unk"):
        Rotation.parse(text)


def test_a_secret_shows_itself_nowhere() -> None:
    secret = Secret("canary")
    shown = [str(secret), repr(secret), f"{secret}", f"{secret!r:>9}", repr([secret])]
    assert not any("canary" in text for text in shown)
    assert secret.reveal() == "canary"
    with pytest.raises(TypeError, match="never serialised"):
        pickle.dumps(secret)
    with pytest.raises(TypeError, match="never serialised"):
        copy.deepcopy(secret)


def test_secrets_compare_by_value_alone() -> None:
    assert Secret("a") == Secret("a")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"


GRANT = Grant(
    id=1,
    uid="uid",
    name="acme",
    kind=GrantKind.REFRESHABLE,
    client="crm",
    origin="settings",
    refresh_token_fingerprint=b"fingerprint",
)


def test_a_reason_without_its_code() -> None:
    assert replace(GRANT, reason="revoked:invalid_grant").status_reason == "revoked"
    assert replace(GRANT, reason="revoked").status_reason == "revoked"
    assert GRANT.status_reason is None
    assert replace(GRANT, reason="revoked:invalid_grant").reason_detail == "invalid_grant"
    assert replace(GRANT, reason="revoked").reason_detail == GRANT.reason_detail == ""


def test_a_lifetime_needs_both_ends() -> None:
    assert replace(GRANT, issued_at=100.0, expires_at=160.0).lifetime == 60.0
    assert replace(GRANT, issued_at=100.0).lifetime is None
    assert GRANT.lifetime is None
