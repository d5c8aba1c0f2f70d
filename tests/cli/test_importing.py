"""``refresher import`` reads anything, refuses with line numbers, and quotes no value."""

import io
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refresher.cli.importing import FIELDS, ImportRefused, _read, check_lines
from refresher.domain.grants import is_valid_name

CANARY = "canary-5f1c"
CLIENTS = {"crm", "shop"}
GOOD = {"name": "acme", "client": "crm", "refresh_token": CANARY}

quick = settings(max_examples=80, deadline=None, database=None)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from([CANARY, f"{CANARY}\n", "\0" + CANARY, "crm", "shop", "acme", 1.8e9])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abc_A ", max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)
OBJECTS = st.dictionaries(st.sampled_from([*FIELDS, "refreshToken"]), VALUES, max_size=7)
NEAR_MISSES = st.builds(lambda good, more: {**good, **more}, st.just(GOOD), OBJECTS)
LINES = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")),
    (OBJECTS | NEAR_MISSES).map(lambda fields: json.dumps(fields).encode()),
    NEAR_MISSES.map(lambda fields: json.dumps(fields).encode("utf-16")),
    NEAR_MISSES.map(lambda fields: json.dumps(fields).encode()[:-9]),
    st.sampled_from([b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), b'"' + b"x" * 100_000]),
)


def read(*lines: bytes) -> list[dict[str, Any]]:
    file = io.BytesIO(b"\n".join(lines))
    count = check_lines(file, CLIENTS)
    file.seek(0)
    found = [grant for _, grant, _ in _read(file, CLIENTS) if grant is not None]
    assert len(found) == count
    return found


def outcome_of(*lines: bytes) -> tuple[list[dict[str, Any]], list[str]]:
    """The grants, or else the problems, in which no value may stand."""
    try:
        return read(*lines), []
    except ImportRefused as refused:
        text = str(refused)
    assert CANARY not in text
    *problems, end = text.split("\n")
    assert end == "nothing was imported"
    assert problems
    return [], problems


def refusal(*lines: bytes) -> list[str]:
    grants, problems = outcome_of(*lines)
    assert grants == []
    return problems


@quick
@given(st.lists(LINES, max_size=5))
def test_any_lines_are_read_or_refused_by_number(lines: list[bytes]) -> None:
    grants, problems = outcome_of(*lines)
    assert all(re.match(r"line \d+: \w", problem) for problem in problems)
    assert len({grant["name"] for grant in grants}) == len(grants)
    for grant in grants:
        assert is_valid_name(grant["name"])
        assert grant["client"] in CLIENTS
        assert grant["refresh_token"].strip()
        assert 0 < (grant.get("expires_at") or 1) < 1e11
        assert json.loads(json.dumps(grant, allow_nan=False)) == grant


@quick
@given(st.lists(st.sampled_from(["", " ", "bad", json.dumps(GOOD)]), max_size=8))
def test_every_bad_line_has_its_number(lines: list[str]) -> None:
    bad = {number for number, line in enumerate(lines, 1) if line == "bad"}
    good = [number for number, line in enumerate(lines, 1) if line == json.dumps(GOOD)]
    expected = sorted(bad | set(good[1:]))
    encoded = [line.encode() for line in lines]
    if not expected:
        assert len(read(*encoded)) == len(good)
        return
    assert [int(problem.split(":")[0][5:]) for problem in refusal(*encoded)] == expected


@pytest.mark.parametrize("field", [name for name in FIELDS if name != "refresh_token"])
def test_a_token_in_the_wrong_field_is_not_quoted(field: str) -> None:
    for value in (f"{CANARY} x", [CANARY, 1], {CANARY: CANARY}, f"{CANARY}\n"):
        outcome_of(json.dumps({**GOOD, field: value}).encode())


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"name": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (json.dumps(GOOD).encode("utf-16"), "not UTF-8"),
        (b'{"name": "caf\xe9"}', "not UTF-8"),
        (b'{"name": "a\0b"}', "not valid JSON"),
        (json.dumps(GOOD).encode()[:-1] + b', "refresh_token": "x"}', "a field stands twice"),
        (json.dumps({**GOOD, "refresh_token": " "}).encode(), "refresh_token is missing"),
        (json.dumps({**GOOD, "expires_at": 10**400}).encode(), "expires_at is no time in unix"),
        (json.dumps({**GOOD, "expires_at": float("inf")}).encode(), "expires_at is no time"),
        (json.dumps({**GOOD, "expires_at": True}).encode(), "expires_at has the wrong type"),
        (json.dumps({**GOOD, "scope": [["a"]]}).encode(), "scope must be a string or a list"),
        (json.dumps({**GOOD, "client": "other"}).encode(), "there is no client of this name"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_line_is_named_with_its_fault(line: bytes, problem: str) -> None:
    (told,) = refusal(line)
    assert told.startswith(f"line 1: {problem}")


def test_nesting_of_any_depth_is_refused() -> None:
    for depth in range(100, 1100, 7):
        deep = "[" * depth + "]" * depth
        line = f'{{"name": "a", "client": "crm", "refresh_token": "x", "labels": {deep}}}'
        refusal(line.encode())


def test_two_grants_never_share_a_refresh_token() -> None:
    lines = [json.dumps({**GOOD, "name": name}).encode() for name in ("one", "two")]
    assert refusal(*lines) == ["line 2: its refresh token stands on line 1 too"]
    other = json.dumps({**GOOD, "name": "two", "client": "shop"}).encode()
    assert len(read(lines[0], other)) == 2


def test_a_byte_order_mark_and_carriage_returns_are_no_fault() -> None:
    line = json.dumps(GOOD).encode()
    (grant,) = read(b"\xef\xbb\xbf" + line + b"\r", b"\r")
    assert grant["name"] == "acme"
