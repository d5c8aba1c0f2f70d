"""Kept answers: seen, adopted where nothing newer is, dropped by an order or in time."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from refresher.acting import acting, operator
from refresher.app.looks import Looks
from refresher.domain.grants import GrantState
from refresher.domain.outcomes import GrantRejected
from refresher.engine.recovery import recover
from refresher.errors import DuplicateRefreshToken, GrantConflict, UnknownAnswer, VaultKeyError
from refresher.logs import Event
from refresher.vault.schema import kept_answers
from refresher.vault.sealing import Keyring, Place
from refresher.vault.selecting import Selection
from refresher.vault.vault import Vault
from tests.canary import Canary
from tests.engine.office import open_office
from tests.engine.test_unread import unread
from tests.engine.world import Lines, answering, assemble, run
from tests.vault.world import (
    CRM,
    NOW,
    answered,
    at,
    claim_one,
    finish,
    get,
    holds,
    make_seed,
    opened,
    orphans,
    refresh,
    sow,
    static_seed,
)

DAY = 86_400.0
REJECTED = GrantRejected(error="invalid_grant", status=400)


async def orphan(vault: Vault, refresh_token: str | None = "rt-late", name: str = "acme") -> str:
    """An answer that comes for NAME after it was removed; its id."""
    await sow(vault, make_seed(name, f"rt-of-{name}"))
    claim = await claim_one(vault, name=name)
    await vault.remove(name)
    await finish(vault, claim, answered("at-late", refresh_token))
    number: str = (await kept(vault))[-1]["id"]
    return number


async def kept(vault: Vault) -> list[dict[str, Any]]:
    answer = await Looks(vault, {}).by_name()["kept"]({})
    assert answer["next"] is None
    found: list[dict[str, Any]] = answer["kept"]
    return found


async def test_an_orphan_is_shown_without_its_secrets(vault: Vault, canary: Canary) -> None:
    await orphan(vault, canary.plant("rt"))
    [shown] = await kept(vault)
    assert shown == {
        "id": "1",
        "kind": "orphan",
        "grant": "acme",
        "client": "crm",
        "received_at": NOW,
        "refresh_token": True,
        "opened": True,
    }
    assert canary.found_in(str(shown).encode()) == set()


async def test_the_orphan_of_a_removed_grant_brings_it_back(vault: Vault, lines: Lines) -> None:
    number = await orphan(vault)
    office = open_office(vault)
    with acting(operator(1000, 42)):
        grant = await office.keeping.adopt(number, None)
    assert holds(vault, grant, "rt-late")
    assert (grant.name, grant.client, grant.due_at) == ("acme", "crm", NOW)
    assert (await kept(vault), await orphans(vault)) == ([], [])
    assert (office.published, len(office.woken)) == (["acme"], 1)
    [line] = lines.of(Event.ANSWER_ADOPTED)
    assert (line["grant"], line["uid"], line["pid"]) == ("acme", 1000, 42)
    noted = await vault.changes.page(after=0, limit=1, grant="acme")
    assert [(one.what, one.uid) for one in noted] == [("answer_adopted", 1000)]
    assert (await refresh(vault, answered("at-2", "rt-2"))).state is GrantState.FRESH


async def test_a_lost_grant_takes_an_orphan(vault: Vault) -> None:
    number = await orphan(vault)
    await sow(vault, make_seed("other", "rt-other", scope=("r",), labels={"team": "a"}))
    await refresh(vault, REJECTED, name="other")
    assert (await get(vault, "other")).state is GrantState.REAUTHORIZATION_REQUIRED
    grant = await open_office(vault).keeping.adopt(number, "other")
    assert holds(vault, grant, "rt-late")
    assert (grant.scope, grant.labels) == (("r",), {"team": "a"})


async def test_no_orphan_takes_the_place_of_a_refresh_token_that_may_be_newer(
    vault: Vault,
) -> None:
    number = await orphan(vault)
    await sow(vault, make_seed(refresh_token="rt-newer"))
    for state in ("pending", "fresh", "paused"):
        if state == "fresh":
            await refresh(vault, answered("at-1"))
        if state == "paused":
            await vault.pauses.pause(Selection(names=["acme"]), until=None)
        before = await get(vault)
        assert before.state.value == state
        with pytest.raises(GrantConflict, match="may be newer"):
            await open_office(vault).keeping.adopt(number, None)
        assert await get(vault) == before
    assert [each["refresh_token"] for each in await orphans(vault)] == ["rt-late"]


async def test_a_refresh_token_that_was_refused_is_not_sent_again(vault: Vault) -> None:
    number = await orphan(vault)
    await sow(vault, make_seed("other", "rt-late"))
    await refresh(vault, REJECTED, name="other")
    await vault.remove("other")
    await sow(vault, make_seed(refresh_token=None))
    before = await get(vault)
    with pytest.raises(GrantConflict, match="finally refused, before"):
        await open_office(vault).keeping.adopt(number, None)
    assert await get(vault) == before
    assert len(await kept(vault)) == 1


async def test_an_orphan_that_another_grant_holds_is_refused(vault: Vault) -> None:
    number = await orphan(vault)
    await sow(vault, make_seed("other", "rt-late"), make_seed(refresh_token=None))
    with pytest.raises(DuplicateRefreshToken):
        await open_office(vault).keeping.adopt(number, None)


async def test_an_orphan_goes_to_no_grant_of_another_client_or_kind(vault: Vault) -> None:
    number = await orphan(vault)
    await sow(vault, make_seed("erp", None, client="erp"), static_seed())
    for name in ("erp", "pat"):
        with pytest.raises(GrantConflict, match="is of client crm"):
            await open_office(vault).keeping.adopt(number, name)


async def test_an_orphan_without_a_refresh_token_is_refused(vault: Vault) -> None:
    number = await orphan(vault, None)
    with pytest.raises(GrantConflict, match="has no refresh token"):
        await open_office(vault).keeping.adopt(number, None)


async def test_an_exchange_that_is_out_is_waited_for(vault: Vault) -> None:
    number = await orphan(vault)
    await sow(vault, make_seed("other", "rt-other"))
    await refresh(vault, REJECTED, name="other")
    await vault.hastening.ask_lost(names=["other"])
    await claim_one(vault, name="other")
    with pytest.raises(GrantConflict, match="is out: ask again"):
        await open_office(vault).keeping.adopt(number, "other")


async def test_an_unreadable_answer_is_read_once_more(vault: Vault, lines: Lines) -> None:
    """As at a start, under the commit rule: it counts if nothing newer has come."""
    await sow(vault, make_seed())
    await run(assemble(vault, answering(unread())))
    [shown] = await kept(vault)
    assert (shown["kind"], shown["refresh_token"]) == ("unreadable", None)
    office = open_office(vault)
    with pytest.raises(GrantConflict, match="counts for acme alone"):
        await office.keeping.adopt(shown["id"], "other")
    grant = await office.keeping.adopt(shown["id"], None)
    assert holds(vault, grant, "rt-1")
    assert await kept(vault) == []
    assert [line["outcome"] for line in lines.of(Event.ANSWER_ADOPTED)] == ["apply"]


async def test_what_nobody_understands_stays_kept(vault: Vault) -> None:
    await sow(vault, make_seed())
    await run(assemble(vault, answering(unread(body=b"<html>"))))
    [shown] = await kept(vault)
    with pytest.raises(GrantConflict, match="nobody understands"):
        await open_office(vault).keeping.adopt(shown["id"], None)
    assert await kept(vault) == [shown]


async def test_what_was_dropped_is_gone_and_noted(vault: Vault, lines: Lines) -> None:
    number = await orphan(vault)
    office = open_office(vault)
    await office.keeping.drop(number)
    assert await kept(vault) == []
    [line] = lines.of(Event.ANSWER_DROPPED)
    assert (line["grant"], line["reason"]) == ("acme", "orphan: operator")
    [noted] = await vault.changes.page(after=0, limit=1, grant=None)
    assert (noted.what, noted.grant, noted.detail) == (
        "answer_dropped",
        "acme",
        f"answer {number}: orphan",
    )
    with pytest.raises(UnknownAnswer):
        await office.keeping.drop(number)
    with pytest.raises(UnknownAnswer):
        await office.keeping.adopt(number, None)


async def test_what_was_kept_long_enough_is_dropped(vault: Vault, lines: Lines) -> None:
    await orphan(vault)
    office = open_office(vault)
    at(vault, NOW + 29 * DAY)
    await office.keeping.drop_old(30 * DAY)
    assert len(await kept(vault)) == 1
    at(vault, NOW + 31 * DAY)
    await office.keeping.drop_old(30 * DAY)
    assert await kept(vault) == []
    [line] = lines.of(Event.ANSWER_DROPPED)
    assert line["reason"] == "orphan: old"
    [noted] = await vault.changes.page(after=0, limit=9, grant=None)
    assert (noted.what, noted.by) == ("answer_dropped", "daemon")


async def test_what_a_command_recovers_was_ordered_by_nobody(vault: Vault) -> None:
    await sow(vault, make_seed())
    await run(assemble(vault, answering(unread())))
    with acting(operator(1000, 42)):
        await recover(vault, {"crm": CRM}, vault.clock)
    [noted] = await vault.changes.page(after=0, limit=1, grant=None)
    assert (noted.what, noted.by, noted.uid) == ("answer_adopted", "daemon", None)


FOREIGN = Keyring([bytes(range(32))])
"""A key that is in nobody's file any more."""


async def test_an_orphan_of_a_lost_key_waits_and_can_be_dropped(vault: Vault) -> None:
    number = await orphan(vault)
    sealed = FOREIGN.seal(b"{}", Place("x", "orphan"))
    change = sa.update(kept_answers).values(sealed=sealed)
    await vault._write(lambda tx: tx.connection.execute(change))
    [shown] = await kept(vault)
    assert (shown["opened"], shown["refresh_token"], shown["grant"]) == (False, None, "acme")
    office = open_office(vault)
    with pytest.raises(VaultKeyError):
        await office.keeping.adopt(number, None)
    assert await kept(vault) == [shown]
    await office.keeping.drop(number)
    assert await kept(vault) == []


async def test_a_rescued_answer_of_a_lost_key_can_be_dropped(tmp_path: Path, lines: Lines) -> None:
    async with opened(tmp_path) as vault:
        rescued = vault.rescued._file.put(FOREIGN.seal(b"{}", Place("rescue", "rescue")), ignore)
        await rescued.is_settled.wait()
    async with opened(tmp_path) as vault:
        [shown] = await kept(vault)
        assert (shown["id"], shown["kind"], shown["grant"]) == (
            "rescue-" + str(rescued.slot),
            "rescued",
            None,
        )
        assert shown["opened"] is False
        office = open_office(vault)
        with pytest.raises(GrantConflict, match="adopted by itself"):
            await office.keeping.adopt(shown["id"], None)
        await office.keeping.drop(shown["id"])
        assert await kept(vault) == []
        with pytest.raises(UnknownAnswer):
            await office.keeping.drop(shown["id"])
        assert len(lines.of(Event.ANSWER_DROPPED)) == 1
        [noted] = await vault.changes.page(after=0, limit=1, grant=None)
        assert (noted.what, noted.detail) == ("answer_dropped", f"answer {shown['id']}")
    async with opened(tmp_path) as vault:
        assert await kept(vault) == []


def ignore(_: object) -> None:
    """Nobody wants to know how well it is kept."""
