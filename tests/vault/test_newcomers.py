"""Many new grants in one go are what each would be alone, and cost a few statements together."""

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from refresher.domain.grants import GrantState
from refresher.domain.secret import Secret
from refresher.domain.seeds import Seed
from refresher.errors import DuplicateRefreshToken
from refresher.vault import newcomers
from refresher.vault.rows import Transaction
from refresher.vault.seeds import Seeded, SeedResult
from refresher.vault.vault import Vault
from tests.vault.test_cost_of_looking import counting
from tests.vault.world import DRAW, NOW, answered, at, get, holds, make_seed, opened, refresh, sow

MANY = 1_200

SEEDS = {
    "bare": make_seed(),
    "described": make_seed(labels={"team": "ä"}, scope=("read", "write"), token_type="MAC"),
    "live": make_seed(access_token=Secret("at-0"), expires_at=NOW + 900),
    "ended": make_seed(access_token=Secret("at-0"), expires_at=NOW - 1),
    "endless": make_seed(access_token=Secret("at-0")),
}


async def apply(vault: Vault, *wanted: Seed, replace_spent: bool = False) -> list[Seeded]:
    return await at(vault, NOW).apply_seeds(
        wanted, DRAW, origin="runtime", replace_spent=replace_spent
    )


async def row_of(vault: Vault, name: str = "acme") -> dict[str, Any]:
    """The row NAME without what chance has made of it."""

    def read(tx: Any) -> dict[str, Any]:
        found = tx.connection.exec_driver_sql("SELECT * FROM grants WHERE name = ?", (name,))
        row = dict(found.mappings().one())
        opened = [tx.sealer.refresh_token(row).reveal(), tx.sealer.access_token(row)]
        return row | {
            "opened": str(opened),
            **dict.fromkeys(["uid", "refresh_token_sealed", "token_sealed"]),
            **dict.fromkeys(["refresh_token_fingerprint"]),
        }

    return await vault._read(read)


@pytest.mark.parametrize("seed", SEEDS.values(), ids=SEEDS)
async def test_one_of_many_is_what_it_would_be_alone(
    seed: Seed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    for way in ("in one go", "carefully"):
        (tmp_path / way).mkdir()
        async with opened(tmp_path / way) as vault:
            if way == "carefully":
                monkeypatch.setattr(newcomers, "add", lambda *_, **__: {})
            [seeded] = await apply(vault, seed)
            assert seeded.grant == await get(vault)
            rows.append(await row_of(vault))
            await refresh(vault, answered("at-1"), max(NOW, seeded.grant.due_at or NOW))
            assert (await apply(vault, seed))[0].result is SeedResult.UNCHANGED
    assert rows[0] == rows[1]


async def test_what_is_known_in_any_way_is_applied_with_care(vault: Vault) -> None:
    await sow(vault, make_seed("known", "rt-known"), make_seed("gone", "rt-gone"))
    await at(vault, NOW).remove("gone")
    done = await apply(
        vault,
        make_seed("new", "rt-new"),
        make_seed("known", "rt-known-2"),
        make_seed("spent", "rt-gone"),
        make_seed("gone", "rt-again"),
        make_seed("elsewhere", "rt-known", client="other"),
    )
    assert [one.result for one in done] == [
        SeedResult.ADDED,
        SeedResult.ADOPTED,
        *[SeedResult.ADDED] * 3,
    ]
    spent = await get(vault, "spent")
    assert (spent.state, spent.reason) == (GrantState.PENDING, "seed_spent")
    for name, token in (("new", "rt-new"), ("known", "rt-known-2"), ("gone", "rt-again")):
        assert holds(vault, await get(vault, name), token)


async def test_a_refresh_token_twice_in_one_go_adds_nothing(vault: Vault) -> None:
    with pytest.raises(DuplicateRefreshToken):
        await apply(vault, make_seed("a", "rt-a"), make_seed("b", "rt-b"), make_seed("c", "rt-b"))
    assert await vault.grants() == []


@pytest.mark.of_a_file
async def test_a_thousand_take_a_few_statements(vault: Vault) -> None:
    with counting(vault) as counted:
        await apply(vault, *(make_seed(f"g{n}", f"rt-{n}") for n in range(MANY)))
    assert len(counted.statements) < 40
    assert await vault.counts() == {"pending": MANY}


CALLS_A_LINE = 270
"""Calls of Python and of C that one new grant may take: copies of whole grants took 494, and
SQLAlchemy's lists of what is known 330."""


@pytest.mark.of_a_file
async def test_each_takes_few_calls(vault: Vault) -> None:
    """What the CPU does for a line, counted where no load of the machine changes it."""
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    seeds = [
        make_seed(f"g{n}", f"rt-{n}", access_token=Secret(f"at-{n}"), expires_at=NOW + 900)
        for n in range(500)
    ]
    # The statements for so many are made once for all.
    await apply(vault, *(make_seed(f"before-{n}", f"rt-before-{n}") for n in range(500)))

    def add(tx: Transaction) -> None:
        sys.setprofile(count)
        try:
            newcomers.add(tx, seeds, DRAW, origin="runtime")
        finally:
            sys.setprofile(None)

    await at(vault, NOW)._write(add)
    assert calls / len(seeds) < CALLS_A_LINE
