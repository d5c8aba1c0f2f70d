"""What a provider allows is shared by all replicas, and never multiplied by them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresher.domain.shares import WHOLE, Share, whole

rates = st.none() | st.floats(0.01, 200)


@given(st.integers(1, 9), st.integers(1, 40), rates, st.text(max_size=9))
def test_the_parts_of_all_are_exactly_the_whole(
    replicas: int, concurrency: int, rate: float | None, gate: str
) -> None:
    parts = [Share(replicas, place).of(gate, concurrency, rate) for place in range(replicas)]
    at_work = [(places, paced) for places, paced in parts if places]
    assert sum(places for places, _ in parts) == concurrency
    if rate is not None:
        assert sum(paced or 0.0 for _, paced in at_work) == pytest.approx(rate)
        # Each may begin one at any time: all of those at once are no more than one may alone.
        assert sum(max(paced or 0.0, 1.0) for _, paced in at_work) <= max(rate, 1.0) + 1e-9


def test_one_replica_alone_has_it_all() -> None:
    assert whole().of("gate", 8, 2.5) == (8, 2.5)


def test_what_cannot_be_divided_goes_to_different_replicas() -> None:
    owners = {
        gate: next(place for place in range(3) if Share(3, place).of(gate, 1, None)[0])
        for gate in map(str, range(30))
    }
    assert {*owners.values()} == {0, 1, 2}


def test_a_replica_that_the_others_do_not_know_has_no_share() -> None:
    assert Share(2, None).of("gate", 8, 2.0)[0] == 0


def test_each_replica_begins_with_others_than_the_rest_and_leaves_none_out() -> None:
    numbers = [9, 4, 7, 2, 5, 6]
    orders = [Share(3, place).own_first(numbers) for place in range(3)]
    assert orders[1] == [4, 7, 9, 2, 5, 6]  # each part in the order that it came in
    assert all(sorted(order) == sorted(numbers) for order in orders)
    assert len({number for order in orders for number in order[:2]}) == len(numbers)
    assert WHOLE.own_first(numbers) == Share(3, None).own_first(numbers) == numbers
