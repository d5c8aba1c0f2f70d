"""The vault's log: each order is in it, by whom, in the transaction of the order itself."""

import pytest
import sqlalchemy as sa

from refresher.acting import CONSUMER, SETTINGS, acting, operator
from refresher.domain.outcomes import GrantRejected
from refresher.domain.requests import Rejected
from refresher.domain.secret import Secret
from refresher.errors import DuplicateRefreshToken, UnknownGrant
from refresher.vault import changes as log
from refresher.vault.changes import Change, What
from refresher.vault.schema import changes
from refresher.vault.selecting import Selection
from refresher.vault.vault import Vault
from tests.canary import Canary
from tests.vault.world import (
    DRAW,
    NOW,
    answered,
    at,
    claim_one,
    finish,
    make_seed,
    outcome_of,
    refresh,
    sow,
    static_seed,
    step_back,
)

ALICE = operator(1000, 42)
DAY = 86_400.0


async def noted(vault: Vault, grant: str | None = None) -> list[Change]:
    """The whole log, the oldest first."""
    return (await vault.changes.page(after=0, limit=500, grant=grant))[::-1]


async def whats(vault: Vault, grant: str | None = None) -> list[str]:
    return [change.what for change in await noted(vault, grant)]


async def test_every_order_is_noted_with_its_user_and_process(vault: Vault) -> None:
    acme = Selection(names=["acme"])
    with acting(ALICE):
        await vault.apply_seeds([make_seed()], DRAW, origin="runtime")
        await vault.apply_seeds([make_seed(labels={"team": "a"})], DRAW, origin="runtime")
        renewed = make_seed(refresh_token="rt-2", labels={"team": "a"})
        await vault.apply_seeds([renewed], DRAW, origin="runtime")
        await vault.request_refresh("acme")
        await vault.pauses.pause(acme, until=NOW + 60)
        await vault.pauses.resume(acme)
        await vault.pauses.export(acme)
        await vault.apply_seeds([static_seed()], DRAW, origin="runtime")
        await vault.set_token("pat", Secret("static-1"), expires_at=None, token_type="Bearer")
        await vault.revocations.end("acme", lambda *_: True)
        await vault.remove("acme")
        await vault.changes.note_key("0a0b")
    found = await noted(vault)
    assert [(one.what, one.grant) for one in found] == [
        ("added", "acme"),
        ("updated", "acme"),
        ("seeded", "acme"),
        ("refresh_ordered", "acme"),
        ("paused", "acme"),
        ("resumed", "acme"),
        ("exported", "acme"),
        ("added", "pat"),
        ("token_set", "pat"),
        ("revoked", "acme"),
        ("removed", "acme"),
        ("key_added", None),
    ]
    assert {(one.by, one.uid, one.pid) for one in found} == {("operator", 1000, 42)}
    assert {one.client for one in found if one.grant == "acme"} == {"crm"}
    assert found[4].detail == "until 2027-01-15T08:01:00Z"
    assert {one.at for one in found} == {NOW}


async def test_a_login_is_noted(vault: Vault) -> None:
    await sow(vault, make_seed())
    tokens = outcome_of(await claim_one(vault), answered("at-1", "rt-1"))
    with acting(ALICE):
        await vault.authorize("acme", tokens)
    last = (await noted(vault))[-1]
    assert (last.what, last.grant, last.uid) == (What.AUTHORIZED, "acme", 1000)


async def test_settings_consumers_and_the_daemon_are_told_apart(vault: Vault) -> None:
    with acting(SETTINGS):
        await sow(vault, make_seed())
    grant = await refresh(vault, answered("at-1", "rt-1"))
    with acting(CONSUMER):
        word = Rejected(versions=frozenset({grant.version}), reason="401")
        await at(vault, NOW + 60).take_rejections({"acme": word})
    assert [(one.by, one.what) for one in await noted(vault)] == [
        ("settings", "added"),
        ("consumer", "refresh_requested"),
    ]


async def test_a_lost_grant_is_noted_with_its_reason(vault: Vault) -> None:
    await sow(vault, make_seed())
    await refresh(vault, GrantRejected(error="invalid_grant", status=400))
    [lost] = [one for one in await noted(vault) if one.what == What.LOST]
    assert (lost.by, lost.grant, lost.client) == ("daemon", "acme", "crm")
    assert lost.detail is not None
    with acting(ALICE):
        assert await vault.hastening.ask_lost(names=["acme"]) == ["acme"]
    last = (await noted(vault))[-1]
    assert (last.what, last.grant, last.client, last.uid) == (
        "refresh_ordered",
        "acme",
        "crm",
        1000,
    )


async def test_what_exchanges_bring_is_not_noted(vault: Vault) -> None:
    await sow(vault, make_seed())
    before = await whats(vault)
    await refresh(vault, answered("at-1", "rt-1"))
    assert await whats(vault) == before


async def test_an_order_for_a_client_stands_once_and_is_shown_with_each_grant(
    vault: Vault,
) -> None:
    await sow(vault, make_seed(), make_seed("b", "rt-b"), make_seed("c", "rt-c", client="erp"))
    with acting(ALICE):
        await vault.pauses.pause(Selection(client="crm"), until=None)
        await vault.pauses.resume(Selection(client="crm"))
    paused = [one for one in await noted(vault) if one.what == What.PAUSED]
    assert [(one.grant, one.client, one.count) for one in paused] == [(None, "crm", 2)]
    assert await whats(vault, "b") == ["added", "paused", "resumed"]
    assert await whats(vault, "c") == ["added"]


async def test_what_was_refused_is_not_noted(vault: Vault) -> None:
    """It is one transaction with the order: nothing of it happened."""
    with pytest.raises(DuplicateRefreshToken):
        await vault.apply_seeds([make_seed(), make_seed("b")], DRAW, origin="runtime")
    with pytest.raises(UnknownGrant):
        await vault.remove("acme")
    assert await noted(vault) == []


async def test_an_orphan_is_noted(vault: Vault) -> None:
    await sow(vault, make_seed())
    claim = await claim_one(vault)
    await vault.remove("acme")
    await finish(vault, claim, answered("at-1", "rt-1"))
    assert (await whats(vault))[-2:] == ["removed", "answer_orphaned"]


async def test_pages_go_back_from_the_newest(vault: Vault) -> None:
    await vault.changes.note_clients([(What.CLIENT_CHANGED, f"c{n}") for n in range(5)])
    first = await vault.changes.page(after=0, limit=2, grant=None)
    second = await vault.changes.page(after=first[-1].id, limit=9, grant=None)
    assert [one.client for one in (*first, *second)] == ["c4", "c3", "c2", "c1", "c0"]


async def test_old_changes_are_dropped(vault: Vault) -> None:
    await at(vault, NOW).changes.note_clients([(What.CLIENT_ADDED, "old")])
    await at(vault, NOW + 2 * DAY).changes.note_clients([(What.CLIENT_ADDED, "new")])
    assert await vault.changes.drop_old(3 * DAY) == 0
    assert await vault.changes.drop_old(DAY) == 1
    assert [one.client for one in await noted(vault)] == ["new"]


async def test_too_many_changes_are_dropped(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "MOST_KEPT", 3)
    monkeypatch.setattr(log, "AT_ONCE", 4)
    await vault.changes.note_clients([(What.CLIENT_CHANGED, f"c{n}") for n in range(10)])
    while await vault.changes.drop_old(DAY):
        pass
    assert [one.client for one in await noted(vault)] == ["c7", "c8", "c9"]


async def test_a_step_of_the_clock_does_not_rewrite_what_was_noted(vault: Vault) -> None:
    await sow(vault, make_seed())
    await step_back(vault, -3600)
    assert {one.at for one in await noted(vault)} == {NOW}


async def test_no_secret_is_noted(vault: Vault, canary: Canary) -> None:
    await sow(
        vault,
        make_seed(refresh_token=canary.plant("seed")),
        static_seed(token=canary.plant("static")),
    )
    claim = await claim_one(vault)
    await vault.remove("acme")
    await finish(vault, claim, answered(canary.plant("at"), canary.plant("rt")))
    rows = await vault._database.read(lambda c: str(c.execute(sa.select(changes)).all()))
    assert "answer_orphaned" in rows
    assert canary.found_in(rows.encode()) == set()
