"""Settings that are read again: what they say already is found by a few statements."""

from dataclasses import replace

import pytest

from refresher.domain.secret import Secret
from refresher.domain.seeds import Seed
from refresher.errors import DuplicateRefreshToken, GrantConflict
from refresher.vault.seeds import SeedResult
from refresher.vault.vault import Vault
from tests.vault.test_cost_of_looking import counting, execute
from tests.vault.world import DRAW, NOW, answered, at, make_seed, refresh, sow, static_seed

MANY = 1_200

SOWN = make_seed(labels={"a": "b"}, scope=("read",))

WANTED = {
    "as it was": (SOWN, True),
    "after a rotation": (make_seed("rotated", "rt-r0"), True),
    "from before the last rotation": (make_seed("rotated", "rt-r1"), True),
    "without a token": (make_seed("rotated", None), True),
    "static, as it was set since": (static_seed(), True),
    "other labels": (replace(SOWN, labels={}), False),
    "another scope": (replace(SOWN, scope=()), False),
    "another token": (replace(SOWN, refresh_token=Secret("rt-new")), False),
    "another static token": (static_seed(token="static-9"), False),
    "unknown": (make_seed("other", "rt-other"), False),
    "removed": (make_seed("gone", None), False),
    "awaiting its login with a spent token": (make_seed("waiting", "rt-gone"), False),
    "the token of another": (make_seed("rotated", "rt-0"), False),
    "of another client": (replace(SOWN, client="other"), False),
}


async def prepare(vault: Vault) -> None:
    await sow(vault, SOWN, static_seed(), make_seed("rotated", "rt-r0"), make_seed("waiting", None))
    await refresh(vault, answered("at-1", "rt-r1"), NOW, "rotated")
    await at(vault, NOW).request_refresh("rotated")
    await refresh(vault, answered("at-2", "rt-r2"), NOW, "rotated")
    await vault.set_token("pat", Secret("static-1"), expires_at=None, token_type="Bearer")
    await sow(vault, make_seed("gone", "rt-gone"))
    await vault.remove("gone")


@pytest.mark.parametrize(("seed", "is_settled"), WANTED.values(), ids=WANTED)
async def test_what_is_settled_would_change_nothing(
    vault: Vault, seed: Seed, *, is_settled: bool
) -> None:
    await prepare(vault)
    assert await vault.unchanged([seed, make_seed("nobody", None)]) == (
        {seed.name} if is_settled else set()
    )
    try:
        applied = await vault.apply_seed(seed, DRAW, origin="settings")
    except (DuplicateRefreshToken, GrantConflict):
        assert not is_settled
        return
    assert not is_settled or applied.result is SeedResult.UNCHANGED


@pytest.mark.of_a_file
async def test_a_damaged_row_leaves_all_to_the_careful_way(vault: Vault) -> None:
    await prepare(vault)
    execute(vault, "UPDATE grants SET labels = '{' WHERE name = 'acme'")
    assert await vault.unchanged([SOWN, static_seed()]) == set()


@pytest.mark.of_a_file
async def test_a_thousand_are_settled_by_a_few_statements(vault: Vault) -> None:
    seeds = [make_seed(f"g{n}", f"rt-{n}") for n in range(MANY)]
    await sow(vault, *seeds)
    with counting(vault) as counted:
        assert len(await vault.unchanged(seeds)) == MANY
    assert len(counted.statements) < 15
    assert not [one for one in counted.statements if "IMMEDIATE" in one]
