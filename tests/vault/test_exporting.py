"""What leaves is paused in the same breath; what may be spent stays."""

import pytest

from refresher.domain.clients import UnknownOutcome
from refresher.domain.grants import GrantState
from refresher.domain.outcomes import GrantRejected
from refresher.domain.secret import Secret
from refresher.errors import VaultUnavailable
from refresher.vault import selecting
from refresher.vault.selecting import Selection
from refresher.vault.vault import Vault
from tests.vault.world import (
    LIFE,
    NOW,
    UNKNOWN,
    answered,
    at,
    claim_one,
    finish,
    get,
    make_client,
    make_seed,
    refresh,
    rooms,
    set_writable,
    sow,
    static_seed,
)

ALL = Selection()


async def test_what_is_handed_out_is_not_sent_any_more(vault: Vault) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    page = await at(vault, NOW + 60).pauses.export(ALL)
    [one] = page.exported
    assert (one.refresh_token, one.access_token) == (Secret("rt-1"), Secret("at-1"))
    assert one.grant == await get(vault)
    assert (one.grant.state, one.grant.reason) == (GrantState.PAUSED, "exported_here")
    assert await at(vault, NOW + LIFE).claim(rooms(crm=1), 1) == []
    again = await at(vault, NOW + 70).pauses.export(ALL)
    assert [each.refresh_token for each in again.exported] == [Secret("rt-1")], "a pipe that broke"
    assert (await at(vault, NOW + 80).pauses.resume(Selection(client="crm")))[0][1] == await get(
        vault
    )
    assert (await get(vault)).state is GrantState.PAUSED, "each is resumed by its name"
    await at(vault, NOW + 80).pauses.resume(Selection(names=["acme"]))
    assert (await get(vault)).due_at == NOW + 80


async def test_what_may_be_spent_is_left_out_and_named(vault: Vault) -> None:
    lost = GrantRejected(error="invalid_grant", status=400)
    for name, outcome in (("lost", lost), ("unknown", UNKNOWN), ("deciding", UNKNOWN)):
        await sow(vault, make_seed(name, f"rt-{name}"))
        pausing = make_client(on_unknown_outcome=UnknownOutcome.PAUSE)
        client = pausing if name == "deciding" else make_client()
        await finish(vault, await claim_one(vault, name=name), outcome, client=client)
    await sow(vault, make_seed("out", "rt-out"), make_seed("waiting", None), static_seed())
    await claim_one(vault, name="out")
    await sow(vault, make_seed("odd", "rt-odd"))
    await refresh(vault, answered("at-odd", "rt-found", is_searched=True), name="odd")
    page = await at(vault, NOW + 60).pauses.export(ALL)
    assert page.exported == []
    assert {one.name: (one.why, one.is_worth_a_try) for one in page.left_out} == {
        "lost": ("it is lost (revoked:invalid_grant)", False),
        "unknown": ("an exchange of it is open, which may have spent its refresh token", True),
        "deciding": ("an exchange of it is open, which may have spent its refresh token", True),
        "out": ("an exchange of it is open, which may have spent its refresh token", True),
        "waiting": ("it has no refresh token (awaiting_login)", False),
        "pat": ("it is a static token", False),
        "odd": ("its refresh token was not proven by a refresh yet", True),
    }
    states = {grant.name: grant.state for grant in await vault.grants()}
    assert [name for name, state in states.items() if state is GrantState.PAUSED] == ["deciding"]


async def test_an_export_goes_page_by_page(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selecting, "PAGE", 2)
    for name in "abc":
        await sow(vault, make_seed(name, f"rt-{name}"))
        await refresh(vault, answered(f"at-{name}", f"rt-{name}-1"), name=name)
    names, after = [], 0
    while (page := await vault.pauses.export(ALL, after=after)).last is not None:
        names.append([one.grant.name for one in page.exported])
        after = page.last
    assert names == [["a", "b"], ["c"]]


@pytest.mark.of_a_file
async def test_a_vault_that_refuses_hands_out_nothing(vault: Vault) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    set_writable(vault, writable=False)
    with pytest.raises(VaultUnavailable):
        await at(vault, NOW + 60).pauses.export(ALL)
    set_writable(vault, writable=True)
    assert (await get(vault)).state is GrantState.FRESH
