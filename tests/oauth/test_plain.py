"""The reader of plain answers says what the full reader says, or nothing."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refresher.domain.outcomes import Refreshed
from refresher.domain.quirks import LifetimeUnit
from refresher.oauth.answers import read_answer
from refresher.oauth.error_codes import find_error
from refresher.oauth.plain import read_plain
from refresher.oauth.responses import classify
from refresher.oauth.shapes import shaped
from tests.oauth.world import make_client

NOW = 1_800_000_000.0
ACCESS, SUCCESSOR, PRESENTED = "a" * 40, "rt-2." + "s" * 40, "rt-1." + "p" * 100
USUAL = {
    "access_token": ACCESS,
    "token_type": "Bearer",
    "expires_in": 3600,
    "refresh_token": SUCCESSOR,
    "scope": "read write",
}

CLIENTS = [
    make_client(),
    make_client(expires_in_unit=LifetimeUnit.MILLISECONDS),
    make_client(scope_separator=","),
    make_client(extras=("scope",)),
    make_client(answer_names={"access_token": "scope"}),
    make_client(answer_path="scope"),
    make_client(error_field="token_type"),
]

texts = st.one_of(
    st.text(max_size=60),
    st.text("*•. \t\0é%2F-_", max_size=60),
    st.sampled_from(
        [ACCESS, SUCCESSOR, PRESENTED, f" {PRESENTED}", f"{PRESENTED} ", "null", "[object Object]"]
    ),
    st.sampled_from(["x" * 5, "*" * 40, "a.b.c" * 10, f"{ACCESS}.e30.x", "%61" * 20, "ü" * 40]),
)
values = st.one_of(texts, st.none(), st.booleans(), st.integers(), st.floats(), st.lists(texts))
lifetimes = st.one_of(
    values, st.integers(-1, 10**12), st.sampled_from([0, 10**9, 10**9 - 1, 315_360_001])
)
answers = st.fixed_dictionaries(
    {},
    optional={
        "access_token": values,
        "refresh_token": values,
        "token_type": values,
        "scope": values,
        "expires_in": lifetimes,
        "expires_at": lifetimes,
        "error": values,
    },
)


@given(
    told=answers.map(lambda some: USUAL | some) | answers,
    presented=texts,
    client=st.sampled_from(CLIENTS),
)
@example(told=USUAL, presented=PRESENTED, client=CLIENTS[0])
@example(told=USUAL, presented=SUCCESSOR, client=CLIENTS[0])
@example(told=USUAL, presented=PRESENTED * 2, client=CLIENTS[0])
def test_a_plain_answer_is_what_the_full_reader_reads(
    told: Mapping[str, Any], presented: str, client: Any
) -> None:
    sent = {"refresh_token": presented}

    plain = read_plain(told, client, sent)

    if plain is not None:
        assert plain == read_answer(shaped(told, client.quirks), client, NOW, sent=sent)
        assert find_error(told, client) is None


@pytest.mark.parametrize("without", [(), ("scope",), ("refresh_token",), ("token_type", "scope")])
def test_the_usual_answers_are_plain(without: tuple[str, ...]) -> None:
    told = {name: value for name, value in USUAL.items() if name not in without}
    sent = {"refresh_token": PRESENTED}

    plain = read_plain(told, make_client(), sent)

    assert plain is not None
    read = classify(200, {}, json.dumps(told).encode(), make_client(), NOW, sent=sent)
    assert read == Refreshed(answer=plain, status=200)


@pytest.mark.parametrize(
    "odd",
    [
        {"refresh_token": PRESENTED},  # an echo
        {"refresh_token": "s" * 24},  # far shorter than the one before
        {"access_token": f"{ACCESS}.e30.{ACCESS}"},  # a JWT may tell its own end
        {"expires_in": "3600"},
        {"expires_in": 1_900_000_000},  # an instant
        {"expires_in": True},
        {"error": "invalid_grant"},
        {"id_token": "x"},
        {"scope": "read\0write"},
    ],
)
def test_what_tells_more_is_left_to_the_full_reader(odd: dict[str, Any]) -> None:
    assert read_plain(USUAL | odd, make_client(), {"refresh_token": PRESENTED}) is None
