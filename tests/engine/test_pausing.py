"""An operator pauses and resumes: said once, published, and for a whole client in one line."""

import pytest

from refresher.app.operations import Operations
from refresher.domain.grants import GrantState
from refresher.errors import UnknownGrant
from refresher.logs import Event
from refresher.vault import selecting
from refresher.vault.selecting import Selection
from refresher.vault.vault import Vault
from tests.engine.office import Office, open_office
from tests.engine.world import Lines
from tests.vault.world import (
    LIFE,
    NOW,
    answered,
    at,
    claim_one,
    get,
    make_client,
    make_seed,
    refresh,
    sow,
    static_seed,
)

ACME = Selection(names=["acme"])


async def an_office(vault: Vault, *names: str) -> Office:
    for name in names or ("acme",):
        await sow(vault, make_seed(name, f"rt-{name}"))
        await refresh(vault, answered(f"at-{name}", f"rt-{name}-1"), name=name)
    return open_office(vault, clients={"crm": make_client(refresh_token_idle=LIFE / 2)})


async def test_an_order_is_said_and_published(vault: Vault, lines: Lines) -> None:
    office = await an_office(vault)
    done = await office.administration.pause(ACME, 600.0)
    assert (done.count, done.grants) == (1, [await get(vault)])
    [told] = lines.of(Event.GRANT_PAUSE_ORDERED)
    assert (told["grant"], told["reason"], told["ends_at"]) == ("acme", "operator", NOW + 600)
    assert await office.administration.refresh("acme") is None
    assert (await office.administration.resume(ACME)).count == 1
    [told] = lines.of(Event.GRANT_RESUMED)
    assert (told["grant"], told["reason"]) == ("acme", "operator")
    assert lines.of(Event.GRANT_PAUSED) == [], "nobody has to do anything"
    assert office.published == ["acme", "acme"]
    assert (await office.administration.resume(ACME)).count == 0
    assert len(lines.of(Event.GRANT_RESUMED)) == 1


async def test_an_unknown_name_pauses_none(vault: Vault) -> None:
    office = await an_office(vault)
    with pytest.raises(UnknownGrant, match="nobody"):
        await office.administration.pause(Selection(names=["acme", "nobody"]), None)
    assert (await get(vault)).state is GrantState.FRESH


async def test_a_client_is_told_in_one_line(
    vault: Vault, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selecting, "PAGE", 2)
    office = await an_office(vault, *"abc")
    await sow(vault, static_seed(client="crm"))
    crm = Selection(client="crm")
    done = await office.administration.pause(crm, None)
    assert (done.count, done.grants) == (3, [])
    assert office.published == ["a", "b", "c"]
    [told] = lines.of(Event.GRANT_PAUSE_ORDERED)
    assert (told["client"], told["count"], told["ends_at"]) == ("crm", 3, None)
    assert (await office.administration.resume(crm)).count == 3
    assert len(lines.of(Event.GRANT_RESUMED)) == 1


async def test_the_answer_tells_what_a_pause_may_cost(vault: Vault) -> None:
    office = await an_office(vault)
    parts = (office.administration, office.logins, office.revoking, office.keeping)
    offered = Operations(*parts, {}).by_name()
    await at(vault, NOW).request_refresh("acme")
    await claim_one(vault)
    answer = await offered["pause"]({"names": ["acme"]})
    [grant] = answer["grants"]
    assert (grant["state"], grant["exchange_out"]) == ("paused", True)
    assert grant["refresh_token_dies_at"] == NOW + LIFE / 2
    refused = await offered["refresh"]({"name": "acme"})
    assert refused["accepted"] is False
    assert refused["stands"]["repair"] == "refresher resume acme ends the pause"
