"""The readable tokens, page by page in the order of their ends, whatever else there is."""

import pytest
import sqlalchemy as sa

from refresher.domain.grants import Publication
from refresher.domain.readable import Page, Shown
from refresher.domain.secret import Secret
from refresher.publication import records
from refresher.vault import readable
from refresher.vault.vault import Vault
from tests.vault.test_cost_of_looking import counting, execute, multiply
from tests.vault.world import LIFE, NOW, answered, at, make_seed, refresh, sow, static_seed

PAGE = 2_500
"""Instructions that a page of ten may take, of the statements alone."""


async def all_of(vault: Vault, limit: int, now: float = NOW) -> list[Publication]:
    found: list[Publication] = []
    page = Page([], Shown(now))
    while page.last is not None:
        page = await vault.readable(page.last, limit)
        assert len(page.publications) <= limit
        found += page.publications
    return found


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_they_come_by_their_ends_and_show_what_a_walk_shows(vault: Vault, limit: int) -> None:
    ends = {"c": 900.0, "a": 300.0, "paused": 600.0, "b": 900.0, "d": 900.0}
    await sow(vault, *(make_seed(name, f"rt-{name}", labels={"of": name}) for name in ends))
    for name, life in ends.items():
        await refresh(vault, answered(f"at-{name}", expires_in=life), name=name)
    await sow(vault, make_seed("pending", None), make_seed("over", "rt-o"), static_seed())
    await refresh(vault, answered("at-over"), name="over")
    await sow(vault, make_seed("gone", "rt-g", access_token=Secret("at-g"), expires_at=NOW + 99))
    await at(vault, NOW).remove("gone")
    execute(vault, "UPDATE grants SET state = 'paused' WHERE name = 'paused'")
    execute(vault, f"UPDATE grants SET expires_at = {NOW - 5} WHERE name = 'over'")  # noqa: S608
    found = await all_of(vault, limit)
    assert [one.grant.name for one in found] == ["a", "paused", "c", "b", "d", "pat"]
    whole = {one.grant.name: one for one in await vault.walk(0, 100)}
    for one in found:
        other = whole[one.grant.name]
        assert records.token_and_message(one) == records.token_and_message(other)
        assert records.remaining_life(one, NOW) == records.remaining_life(other, NOW)


@pytest.mark.of_a_file
async def test_an_odd_row_is_left_to_the_walk(vault: Vault) -> None:
    for name in ("a", "b", "c", "d"):
        await sow(vault, make_seed(name, f"rt-{name}"))
        await refresh(vault, answered(f"at-{name}"), name=name)
    execute(vault, "UPDATE grants SET token_sealed = x'02' WHERE name = 'a'")
    execute(vault, "UPDATE grants SET version = 'canary' WHERE name = 'b'")
    execute(vault, "UPDATE grants SET labels = '[]' WHERE name = 'd'")
    assert [one.grant.name for one in await all_of(vault, 2)] == ["c"]
    execute(vault, "UPDATE grants SET token_type = CAST(x'ff' AS TEXT) WHERE name = 'c'")
    assert await all_of(vault, 2) == []


@pytest.mark.of_a_file
@pytest.mark.parametrize("ends", ["expires_at + n", "expires_at", "NULL"])
async def test_a_page_costs_the_same_wherever_it_is(vault: Vault, ends: str) -> None:
    """Also where all end in the same second, or none does."""
    await sow(vault, make_seed("one", "rt-1"))
    await refresh(vault, answered("at", expires_in=LIFE), name="one")
    multiply(vault, "one", 3_000, f"expires_at = {ends}")
    number = 2_500
    last = None if ends == "NULL" else NOW + LIFE + (number if ends.endswith("n") else 0)
    with counting(vault) as counted:
        page = await vault.readable(Shown(last, number), 10)
    assert page.last is not None
    assert page.last.id == number + 10
    assert counted.instructions < PAGE


async def test_each_statement_goes_by_the_indexes_on_ends(vault: Vault, either: str) -> None:
    """And sorts no more than a page: what each index gives ends with one."""
    engine = vault._database._reader
    for prepared in (
        statement
        for found in (readable._WHOLE, readable._VERSIONS)
        for statement in (found._at_the_same_time, found._later, found._never)
    ):
        text, known = prepared._compiled(engine.dialect)
        with engine.connect() as connection:
            if either == "sqlite":
                explained = sa.text(f"EXPLAIN QUERY PLAN {text}").text
                rows = connection.exec_driver_sql(explained, tuple(1 for _ in known))
                plan = [row[3] for row in rows]
                assert not [step for step in plan if "SCAN grants" in step], plan
            else:
                connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
                explained = sa.text(f"EXPLAIN {text}").text
                rows = connection.exec_driver_sql(explained, {name: 1 for name, _ in known})
                plan = [row[0] for row in rows]
                assert str(plan).count("Limit") == 3, plan
        assert "ix_grants_ending" in str(plan)
        assert "ix_grants_ended_unnoticed" in str(plan)
