"""Grants that renew themselves, in the vault: their terms, and how exchanges follow a subject."""

from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from refresher.domain.grants import GrantKind, GrantState
from refresher.domain.outcomes import GrantRejected, SubjectMissing
from refresher.domain.renewal import (
    Assertion,
    ClientCredentials,
    SubjectToken,
    SubjectTokenType,
    Terms,
)
from refresher.domain.secret import Secret
from refresher.domain.seeds import Seed
from refresher.errors import AuthorizationFailed, GrantConflict
from refresher.vault.rows import Transaction
from refresher.vault.schema import grants
from refresher.vault.seeds import SeedResult
from refresher.vault.selecting import Selection
from refresher.vault.vault import Vault
from tests.engine.office import open_office
from tests.vault.world import (
    DRAW,
    NOW,
    access_token,
    answered,
    at,
    claim_one,
    finish,
    get,
    login_of,
    make_seed,
    refresh,
    rooms,
    sow,
    static_seed,
)

SUBJECT = Terms(subject="acme", audience=("billing",))


def itself(name: str, kind: GrantKind, terms: Terms = SUBJECT) -> Seed:
    return Seed(name=name, kind=kind, client="crm", terms=terms, scope=("read",))


async def exchanged(vault: Vault, now: float) -> Secret | None:
    """What the exchange x presents, which is due NOW."""
    claim = await claim_one(vault, now, "x")
    assert isinstance(claim.renewal, SubjectToken)
    await finish(vault, claim, answered("at-x"), now)
    return claim.renewal.presents


async def hastened(vault: Vault) -> int:
    """How many grants a look has made due."""
    moved = await vault.time_passed()
    assert all(after.due_at == vault.clock.now() for _, after in moved)
    return len(moved)


async def test_each_kind_is_due_at_once_and_presents_what_is_its_own(vault: Vault) -> None:
    await sow(vault, itself("c", GrantKind.CLIENT), itself("a", GrantKind.ASSERTION))
    assert (await claim_one(vault, NOW, "c")).renewal == ClientCredentials(SUBJECT)
    assert (await claim_one(vault, NOW, "a")).renewal == Assertion(SUBJECT)


async def test_a_token_is_adopted_and_the_next_is_asked_for_in_time(vault: Vault) -> None:
    await sow(vault, itself("c", GrantKind.CLIENT))
    grant = await refresh(vault, answered("at-1", "rt-unwanted"), NOW, "c")
    assert grant.state is GrantState.FRESH
    assert grant.is_renewable
    assert grant.due_at is not None
    assert await access_token(vault, "c") == "at-1"
    grant = await refresh(vault, answered("at-2"), grant.due_at, "c")
    assert await access_token(vault, "c") == "at-2"


async def test_other_terms_are_asked_for_at_once_and_void_what_is_out(vault: Vault) -> None:
    await sow(vault, itself("c", GrantKind.CLIENT))
    out = await claim_one(vault, NOW, "c")
    other = Terms(audience=("stock",))
    [seeded] = await at(vault, NOW + 1).apply_seeds(
        [itself("c", GrantKind.CLIENT, other)], DRAW, origin="settings"
    )
    assert seeded.result is SeedResult.ADOPTED
    assert (await finish(vault, out, answered("at-old"), NOW + 2)).verdict == "superseded"
    assert await access_token(vault, "c") is None
    [same] = await vault.apply_seeds([itself("c", GrantKind.CLIENT, other)], DRAW, origin="x")
    assert same.result is SeedResult.UNCHANGED


async def test_one_that_was_removed_comes_back_with_the_settings(vault: Vault) -> None:
    await sow(vault, itself("c", GrantKind.CLIENT))
    first = await refresh(vault, answered("at-1"), NOW, "c")
    await vault.remove("c")
    await sow(vault, itself("c", GrantKind.CLIENT), now=NOW + 5)
    again = await refresh(vault, answered("at-2"), NOW + 6, "c")
    assert again.version > first.version


async def test_an_exchange_waits_until_its_subject_has_a_token(vault: Vault) -> None:
    await sow(vault, itself("x", GrantKind.EXCHANGE), make_seed())
    claim = await claim_one(vault, NOW, "x")
    assert claim.renewal == SubjectToken(None, SUBJECT)
    await finish(vault, claim, SubjectMissing(subject="acme"), NOW)
    assert await hastened(at(vault, NOW + 0.1)) == 0
    await refresh(vault, answered("at-1", "rt-1"), NOW + 0.2)
    assert await hastened(at(vault, NOW + 0.3)) == 1
    assert await exchanged(vault, NOW + 0.3) == Secret("at-1")
    assert await hastened(vault) == 0


async def test_an_exchange_begins_anew_when_its_subject_is_authorized_anew(vault: Vault) -> None:
    await sow(vault, itself("x", GrantKind.EXCHANGE), make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    assert await exchanged(vault, NOW + 1) == Secret("at-1")
    out = await at(vault, NOW + 2).claim(rooms(crm=1), 1, only="x")
    assert out == [], "nothing is due"
    login = login_of(await get(vault), answered("at-2", "rt-2"), NOW + 3)
    await at(vault, NOW + 3).authorize("acme", login)
    assert await access_token(vault, "x") == "at-x", "what is published stays until its successor"
    assert await exchanged(vault, NOW + 4) == Secret("at-2")


async def test_a_token_of_the_authorization_before_is_not_exchanged(vault: Vault) -> None:
    await sow(vault, itself("x", GrantKind.EXCHANGE), make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    await exchanged(vault, NOW + 1)
    await sow(vault, make_seed(refresh_token="of-another-account"), now=NOW + 2)
    claim = await claim_one(vault, NOW + 3, "x")
    assert claim.renewal.presents is None
    await finish(vault, claim, SubjectMissing(subject="acme"), NOW + 3)
    assert await hastened(vault) == 0
    await refresh(vault, answered("at-2", "rt-2"), NOW + 3)
    assert await hastened(vault) == 1
    assert await exchanged(vault, NOW + 3) == Secret("at-2")


async def test_a_token_that_was_imported_with_its_grant_is_exchanged(vault: Vault) -> None:
    seed = make_seed(access_token=Secret("at-0"), expires_at=NOW + 900)
    await sow(vault, itself("x", GrantKind.EXCHANGE), seed)
    assert await exchanged(vault, NOW + 1) == Secret("at-0")


async def test_an_exchange_may_present_a_refresh_token_or_a_static_one(vault: Vault) -> None:
    terms = Terms(subject="acme", subject_token=SubjectTokenType.REFRESH_TOKEN)
    await sow(vault, itself("x", GrantKind.EXCHANGE, terms), make_seed())
    assert await exchanged(vault, NOW) == Secret("rt-0")
    await sow(vault, itself("y", GrantKind.EXCHANGE, Terms(subject="pat")), static_seed())
    assert (await claim_one(vault, NOW, "y")).renewal.presents == Secret("static-0")


async def test_a_subject_that_is_removed_or_over_has_no_token(vault: Vault) -> None:
    await sow(vault, itself("x", GrantKind.EXCHANGE), make_seed())
    await refresh(vault, answered("at-1", "rt-1", expires_in=60))
    assert (await claim_one(vault, NOW + 59, "x")).renewal.presents is None
    await vault.remove("acme")
    await sow(vault, itself("y", GrantKind.EXCHANGE), now=NOW + 60)
    assert (await claim_one(vault, NOW + 60, "y")).renewal.presents is None


def _execute(change: sa.Update, tx: Transaction) -> None:
    tx.connection.execute(change)


async def test_damaged_terms_set_the_row_aside(vault: Vault) -> None:
    await sow(vault, itself("x", GrantKind.EXCHANGE), make_seed())
    wrong: list[Any] = [[], {"audience": [1], "resource": [], "subject_token": "access_token"}]
    for terms in wrong:
        change = sa.update(grants).where(grants.c.name == "x").values(terms=terms)
        await vault._write(partial(_execute, change))
        assert await at(vault, NOW).claim(rooms(crm=2), 2, only="x") == []
    assert (await claim_one(vault, NOW)).grant.name == "acme"


async def test_a_mended_client_asks_at_once_for_what_was_refused(vault: Vault) -> None:
    await sow(vault, itself("c", GrantKind.CLIENT), make_seed())
    rejected = GrantRejected(error="invalid_grant", status=400)
    refused = await refresh(vault, rejected, NOW, "c")
    assert refused.due_at is not None
    assert refused.due_at > NOW + 60
    assert await at(vault, NOW + 1).hastening.blocked("crm") == 1
    assert (await claim_one(vault, NOW + 1, "c")).grant.name == "c"


async def test_people_are_told_why_they_can_do_nothing_to_it(vault: Vault) -> None:
    await sow(vault, itself("c", GrantKind.CLIENT))
    office = open_office(vault)
    with pytest.raises(AuthorizationFailed, match="grant c needs no login"):
        await office.logins.begin("c")
    with pytest.raises(AuthorizationFailed, match="the settings hold what renews it; take it"):
        await office.revoking.revoke("c")
    page = await vault.pauses.export(Selection(names=["c"]))
    assert [one.why for one in page.left_out] == [
        "it has no refresh token: the settings hold what renews it"
    ]


async def test_it_can_be_paused_and_resumed(vault: Vault) -> None:
    await sow(vault, itself("c", GrantKind.CLIENT))
    await vault.pauses.pause(Selection(names=["c"]), until=None)
    assert await at(vault, NOW + 1).claim(rooms(crm=1), 1, only="c") == []
    await vault.pauses.resume(Selection(names=["c"]))
    assert (await claim_one(vault, NOW + 2, "c")).grant.name == "c"


async def test_a_grant_takes_another_kind_where_nothing_of_it_is_lost(vault: Vault) -> None:
    await sow(vault, make_seed("c", None))
    await sow(vault, itself("c", GrantKind.CLIENT), now=NOW + 1)
    first = await refresh(vault, answered("at-1"), NOW + 2, "c")
    assert first.kind is GrantKind.CLIENT
    await sow(vault, make_seed("c", "rt-0"), now=NOW + 3)
    second = await refresh(vault, answered("at-2", "rt-1"), NOW + 4, "c")
    assert second.version > first.version
    with pytest.raises(GrantConflict, match="not a client grant"):
        await sow(vault, itself("c", GrantKind.CLIENT), now=NOW + 5)
