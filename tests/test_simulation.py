"""The guarantees as invariants of a simulated world."""

import pytest

from tests.simulation import simulate


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_seed_violates_a_guarantee(seed: int) -> None:
    seen = simulate(4_000, seed)
    injected = ("crashed in flight", "dropped after", "vault refused", "usurped")
    assert [kind for kind in injected if not seen[kind]] == []
    assert seen["commit apply"] > 500


@pytest.mark.long
@pytest.mark.timeout(900)
def test_many_steps_violate_no_guarantee() -> None:
    for seed in range(100, 110):
        simulate(20_000, seed)
