import base64
import json
import math
from typing import Any

import pytest

from refresher.domain.outcomes import TokenAnswer
from refresher.domain.quirks import LifetimeUnit
from refresher.domain.secret import Secret
from refresher.oauth.answers import read_answer
from tests.oauth.world import make_client

NOW = 1_800_000_000.0


def answer_of(*, client: dict[str, Any] | None = None, **fields: Any) -> TokenAnswer:
    return read_answer({"access_token": "AT2", **fields}, make_client(**(client or {})), NOW)


SURROGATE = chr(0xD800)


def encoded(payload: bytes) -> str:
    return f"a.{base64.urlsafe_b64encode(payload).decode()}.c"


def jwt(claims: object) -> str:
    def part(content: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'none'})}.{part(claims)}.sig"


@pytest.mark.parametrize("value", [3600, "3600", 3600.0, "3600.0", " 3600 "], ids=repr)
def test_a_lifetime_may_be_written_variously(value: object) -> None:
    answer = answer_of(expires_in=value)

    assert answer.expires_in == 3600.0
    assert answer.warnings == ()


@pytest.mark.parametrize(
    "value",
    [0, -1, "-1", math.nan, math.inf, True, "soon", [], {}, 10**21, 10**399, NOW - 1, "2001-01-01"],
    ids=lambda value: repr(value)[:20],
)
def test_an_absurd_lifetime_is_doubted(value: object) -> None:
    answer = answer_of(expires_in=value)

    assert answer.expires_in is None
    assert answer.warnings == ("expires_in is not understood as the end of the access token",)


def test_a_missing_lifetime_brings_no_warning_here() -> None:
    assert answer_of().expires_in is None
    for nothing in (None, "", "null", "undefined"):
        assert answer_of(expires_in=nothing).warnings == ()


def test_a_jwt_tells_its_own_lifetime() -> None:
    assert answer_of(access_token=jwt({"exp": NOW + 600})).expires_in == 600.0
    assert answer_of(access_token=jwt({"exp": NOW + 600}), expires_in=60).expires_in == 60.0


@pytest.mark.parametrize(
    "token",
    [
        jwt({"exp": NOW - 1}),
        jwt({"exp": 10**400}),
        jwt({"exp": True}),
        jwt({"exp": "soon"}),
        jwt([]),
        jwt({}),
        "a.b.c",
        "a.!!.c",
        "..",
        "a.W1tbW1tbW1tbW1s.c",
        encoded(b"[" * 20000),
        encoded(b'{"exp": ' + b"9" * 9999 + b"}"),
    ],
    ids=[
        *("past", "giant", "bool", "text", "list", "none"),
        *("short", "bad", "empty", "cut", "deep", "digits"),
    ],
)
def test_a_broken_jwt_tells_nothing(token: str) -> None:
    assert answer_of(access_token=token).expires_in is None


@pytest.mark.parametrize(
    "name", ["refresh_token_expires_in", "x_refresh_token_expires_in", "refresh_expires_in"]
)
def test_every_name_of_the_refresh_tokens_end_counts(name: str) -> None:
    fields: dict[str, Any] = {name: "8640000"}

    assert answer_of(**fields).refresh_token_expires_in == 8640000.0


def test_an_endless_refresh_token_has_no_end() -> None:
    answer = answer_of(refresh_expires_in=0)

    assert answer.refresh_token_expires_in is None
    assert answer.warnings == ()


def test_the_servers_refresh_hint_is_read() -> None:
    assert answer_of(refresh_in=1800).refresh_in == 1800.0


@pytest.mark.parametrize(
    ("value", "separator", "expected"),
    [
        ("read write", " ", "read write"),
        ("read,write", ",", "read write"),
        ("read, write", ",", "read write"),
        ("a,b c", " ", "a,b c"),
        (["read", "write", 3], " ", "read write"),
        (f"a\x00b{SURROGATE} c", " ", "ab c"),
        ("", " ", None),
        ([], " ", None),
        (None, " ", None),
        (3, " ", None),
        ({}, " ", None),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_scope_comes_out_space_separated(
    value: object, separator: str, expected: str | None
) -> None:
    assert answer_of(client={"scope_separator": separator}, scope=value).scope == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("bearer", "bearer"), ("DPoP", "DPoP"), ("", "Bearer"), (None, "Bearer"), (7, "Bearer"),
     ("a\nb", "ab"), ("User Access Token", "User Access Token")],
    ids=repr,
)  # fmt: skip
def test_the_token_type_is_kept_as_received(value: object, expected: str) -> None:
    assert answer_of(token_type=value).token_type == expected


def test_extras_are_published_as_strings() -> None:
    extras = answer_of(
        client={"extras": ("instance_url", "id", "team", "absent", "null", "live")},
        instance_url="https://eu.example",
        id=123456789012345678901234567890,
        team={"id": "T1"},
        null=None,
        live=True,
        other="unasked",
    ).extras

    assert extras == {
        "instance_url": "https://eu.example",
        "id": "123456789012345678901234567890",
        "team": '{"id":"T1"}',
        "live": "true",
    }


def test_extras_never_hold_a_refresh_token() -> None:
    answer = answer_of(
        client={"extras": ("refresh_token", "authed_user")},
        refresh_token="RT2",
        authed_user={"refresh_token": "RT3"},
    )

    assert answer.extras == {}
    assert len(answer.warnings) == 2


@pytest.mark.parametrize(
    "token",
    ["a\nb", "a\rb", "a\x00b", "a\x7fb", "a\ufffdb", f"a{SURROGATE}b"],
    ids=["newline", "return", "nul", "delete", "replaced", "surrogate"],
)
def test_an_access_token_unfit_for_headers_is_refused(token: str) -> None:
    answer = answer_of(access_token=token)

    assert answer.access_token is None
    assert answer.warnings == ("the access_token is not usable",)


@pytest.mark.parametrize(
    "token", ["a\ufffdb", f"a{SURROGATE}b", True, 1.5, ["x", "y"], {"x": 1}], ids=ascii
)
def test_a_corrupted_refresh_token_is_refused(token: object) -> None:
    answer = answer_of(refresh_token=token)

    assert answer.refresh_token is None
    assert answer.warnings == ("the refresh_token is not usable: the one before is kept",)


@pytest.mark.parametrize(
    ("told", "meant"),
    [(12345678901234567890123, "12345678901234567890123"), (["RT2-successor"], "RT2-successor")],
    ids=["a number", "a list of one"],
)
def test_a_refresh_token_that_is_no_string_is_adopted(told: object, meant: str) -> None:
    """On probation: it may be the only good one."""
    answer = answer_of(refresh_token=told)
    assert (answer.refresh_token, answer.is_searched) == (Secret(meant), True)
    [warning] = answer.warnings
    assert "no string" in warning


@pytest.mark.parametrize("told", ["0", "-", "\u200b", "REDACTED", "[hidden]", " none given "])
def test_what_may_be_a_word_for_none_keeps_its_predecessor(told: str) -> None:
    sent = {"refresh_token": "1//0gx2JfQ5W7kq8CgYIARAAGBASNwF-L9IrT0EJwxYpVn3K"}
    fields = {"access_token": "AT2", "refresh_token": told}

    answer = read_answer(fields, make_client(), NOW, sent=sent)
    assert (answer.refresh_token, answer.is_searched) == (Secret(told), True)
    (warning,) = answer.warnings
    assert "far shorter" in warning
    fields["refresh_token"] = "1//0gx2JfQ5W7k"
    assert not read_answer(fields, make_client(), NOW, sent=sent).is_searched


def test_an_odd_refresh_token_is_kept_exactly() -> None:
    odd = "sp ace/+%=\u00e9\n"
    kept = answer_of(refresh_token=odd).refresh_token

    assert kept is not None
    assert kept.reveal() == odd


def test_a_server_may_count_in_milliseconds() -> None:
    client = make_client(expires_in_unit=LifetimeUnit.MILLISECONDS)
    fields: dict[str, Any] = {
        "access_token": "AT",
        "expires_in": "3600000",
        "refresh_expires_in": 86_400_000,
    }
    answer = read_answer(fields, client, 0.0)
    assert (answer.expires_in, answer.refresh_token_expires_in) == (3600.0, 86_400.0)
    assert read_answer({**fields, "expires_in": 10**400}, client, 0.0).expires_in is None


def test_a_long_access_token_is_used_and_a_longer_one_said() -> None:
    longest = "a" * 65536
    assert answer_of(access_token=longest).access_token == Secret(longest)
    answer = answer_of(access_token=longest + "a", refresh_token="r" * 200_000)
    assert answer.access_token is None
    assert answer.refresh_token == Secret("r" * 200_000)
    assert answer.warnings == ("the access_token is longer than 65536 characters: not usable",)


NOTHING = ["null", "NULL", "undefined", "None", " none ", "nil", "NaN", "false", "[object Object]",
           "", " ", "(null)", "N/A", "***", "\u2022" * 8, None]  # fmt: skip


@pytest.mark.parametrize("nothing", NOTHING, ids=repr)
def test_a_text_that_says_nothing_is_no_token(nothing: str | None) -> None:
    answer = answer_of(access_token=nothing, refresh_token=nothing, expires_in=nothing)

    assert (answer.access_token, answer.refresh_token, answer.expires_in) == (None, None, None)
    assert answer.warnings == ()


@pytest.mark.parametrize("token", ["nullable", "M.C5_*!a***b", "0", "-", "none1", "x"])
def test_a_token_that_looks_like_it_is_one(token: str) -> None:
    assert answer_of(refresh_token=token).refresh_token == Secret(token)
