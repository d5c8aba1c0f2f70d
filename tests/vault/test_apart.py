"""What keeps grants apart in the vault: order of claims, doubts, incidents, probation (G8, G6)."""

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from refresher.domain.claiming import Room
from refresher.domain.grants import Claim, Fault, Grant, GrantState
from refresher.domain.outcomes import ClientRejected, OutcomeUnknown, Transient
from refresher.domain.secret import Secret
from refresher.vault import hastening
from refresher.vault.exchanges import Committed
from refresher.vault.incidents import Incident
from refresher.vault.schema import grants
from refresher.vault.vault import Vault
from tests.domain.world import REJECTED
from tests.vault.world import (
    LIFE,
    NOT_SENT,
    NOW,
    UNKNOWN,
    access_token,
    answered,
    at,
    claim_again,
    claim_one,
    finish,
    get,
    holds,
    make_client,
    make_seed,
    refresh,
    sow,
)

GONE = Transient(reason="http_400", status=400, is_own_word=False)


async def serve(vault: Vault, *names: str, at: float = NOW) -> None:
    """Grants whose first refresh went well."""
    for name in names:
        await sow(vault, make_seed(name, f"rt-{name}"), now=at)
        await refresh(vault, answered(f"at-{name}", f"rt-{name}-1"), at, name)


async def set_columns(vault: Vault, name: str, **values: Any) -> None:
    change = sa.update(grants).where(grants.c.name == name).values(**values)
    await vault._database.write(lambda connection: connection.execute(change))


async def ask(vault: Vault, outcome: Any, now: float, *names: str) -> list[Committed]:
    """Refresh NAMES with OUTCOME, whenever they are due."""
    done = []
    for name in names:
        await set_columns(vault, name, due_at=now)
        done.append(await finish(vault, await claim_one(vault, now, name), outcome, now))
    return done


def room(places: int = 9, **parts: Any) -> Room:
    parts = {"failing": places, "doubted": places} | parts
    return Room(client="crm", gate="crm", places=places, **parts)


async def names(vault: Vault, *rooms: Room, shared: int = 99, now: float = NOW) -> list[str]:
    return [claim.grant.name for claim in await at(vault, now).claim(rooms, shared)]


async def test_replays_whose_window_closes_go_first_the_soonest_first(vault: Vault) -> None:
    await serve(vault, "soon", "later", "over", "short")
    for name, sent_at in (("later", 5.0), ("soon", 9.0), ("over", 50.0)):
        first_sent_at = NOW - sent_at
        await set_columns(
            vault, name, intent_sequence=1, intent_presented=b"x", intent_attempts=1,
            intent_first_sent_at=first_sent_at, due_at=NOW,
        )  # fmt: skip
    await set_columns(vault, "short", due_at=NOW, expires_at=NOW + 1)
    await set_columns(vault, "over", due_at=NOW, expires_at=NOW + 2)
    found = await names(vault, room(replays_since=NOW - 20.0))
    assert found == ["soon", "later", "short", "over"]


async def test_a_closed_endpoint_gets_nothing_but_a_replay(vault: Vault) -> None:
    await serve(vault, "plain", "open")
    await set_columns(
        vault, "open", intent_sequence=1, intent_presented=b"x", intent_attempts=1,
        intent_first_sent_at=NOW - 5, due_at=NOW,
    )  # fmt: skip
    await set_columns(vault, "plain", due_at=NOW)
    closed = room(1, replays_since=NOW - 20.0, only_replays=True)
    assert await vault.next_due([closed]) == NOW
    assert await names(vault, closed) == ["open"]
    assert await vault.next_due([closed]) is None


async def test_failing_and_doubted_grants_keep_to_their_places(vault: Vault) -> None:
    await serve(vault, *(f"f{n}" for n in range(4)), *(f"d{n}" for n in range(3)), "good")
    for number in range(4):
        await set_columns(vault, f"f{number}", due_at=NOW, fault=Fault.GRANT.value)
    for number in range(3):
        await set_columns(
            vault, f"d{number}", due_at=NOW - 9, fault=Fault.GRANT.value, refused_at=NOW - 60
        )
    await set_columns(vault, "good", due_at=NOW, expires_at=NOW + LIFE)
    found = await names(vault, room(8, failing=1, doubted=1))
    assert found[0] == "good"
    assert [name[0] for name in found[1:]] == ["f", "d"]


async def test_failing_grants_take_no_place_of_a_healthy_one(vault: Vault) -> None:
    await serve(vault, "bad", "good")
    await set_columns(vault, "bad", due_at=NOW - 500, fault=Fault.GRANT.value, expires_at=None)
    await set_columns(vault, "good", due_at=NOW)
    assert await names(vault, room(1)) == ["good"]


async def test_a_grant_the_endpoint_failed_is_as_good_as_any(vault: Vault) -> None:
    await serve(vault, "acme")
    await set_columns(vault, "acme", due_at=NOW, fault=Fault.ENDPOINT.value)
    assert await names(vault, room(1, failing=0, doubted=0)) == ["acme"]


async def test_who_goes_last_goes_alone_only_where_nobody_else_is_due(vault: Vault) -> None:
    await serve(vault, "closer", "other")
    last = frozenset({(await get(vault, "closer")).id})
    for name in ("closer", "other"):
        await set_columns(vault, name, due_at=NOW, expires_at=NOW + 10)
    await set_columns(vault, "closer", expires_at=NOW + 1)
    assert await names(vault, room(1, last=last)) == ["other"]
    assert await names(vault, room(1, last=last)) == ["closer"]


async def test_at_a_trial_the_one_served_last_is_the_witness(vault: Vault) -> None:
    await serve(vault, "first", at=NOW)
    await serve(vault, "second", at=NOW + 60)
    for name, end in (("first", 1.0), ("second", 99.0)):
        await set_columns(vault, name, due_at=NOW + 60, expires_at=NOW + 60 + end)
    assert await names(vault, room(1, is_probe=True), now=NOW + 60) == ["second"]


async def test_a_probe_is_none_that_was_never_served(vault: Vault) -> None:
    """Many that fail from the first may be imported at once; who has been served tells more."""
    await serve(vault, "good", at=NOW)
    await sow(vault, *(make_seed(f"new-{number}", f"rt-{number}") for number in range(9)))
    await set_columns(vault, "good", due_at=NOW + 60, expires_at=NOW + 90)
    assert (await names(vault, room(1), now=NOW + 60))[0].startswith("new")
    assert await names(vault, room(1, is_probe=True), now=NOW + 60) == ["good"]
    assert (await names(vault, room(1, is_probe=True), now=NOW + 60))[0].startswith("new")


async def test_every_gate_gets_its_own_place_and_then_a_share(vault: Vault) -> None:
    for client in ("slow", "erp", "pay"):
        await sow(vault, *(make_seed(f"{client}-{n}", f"rt-{n}", client=client) for n in range(5)))

    def rooms(**reserved: bool) -> list[Room]:
        return [
            Room(client=c, gate=c, places=5, failing=5, doubted=5, has_reserve=reserved[c])
            for c in ("slow", "erp", "pay")
        ]

    claims = await vault.claim(rooms(slow=False, erp=True, pay=True), 0)
    assert sorted(claim.grant.client or "" for claim in claims) == ["erp", "pay"]
    claims = await vault.claim(rooms(slow=False, erp=False, pay=False), 6)
    by_client = [claim.grant.client for claim in claims]
    assert {by_client.count(client) for client in ("slow", "erp", "pay")} == {2}


async def test_a_refused_grant_is_doubted_with_its_witness(vault: Vault) -> None:
    await serve(vault, "acme", "other")
    [committed] = await ask(vault, REJECTED, NOW + 60, "acme")
    doubted = committed.grant
    assert doubted is not None
    assert (doubted.refused_at, doubted.refusals, doubted.state) == (
        NOW + 60,
        1,
        GrantState.DEGRADED,
    )
    assert holds(vault, doubted, "rt-acme-1")
    assert await access_token(vault, "acme") == "at-acme"
    await ask(vault, answered("at-2"), NOW + 300, "other")
    await set_columns(vault, "acme", due_at=NOW + 2000)
    claim = await claim_one(vault, NOW + 2000, "acme")
    assert claim.witness_at == NOW + 300
    lost = (await finish(vault, claim, REJECTED, NOW + 2000)).grant
    assert lost is not None
    assert (lost.state, lost.status_reason) == (GrantState.REAUTHORIZATION_REQUIRED, "revoked")


async def test_doubts_outlive_the_process(vault: Vault) -> None:
    await serve(vault, "acme")
    await ask(vault, REJECTED, NOW + 60, "acme")
    grant = await get(vault, "acme")
    assert (grant.refused_at, grant.refusals, grant.fault) == (NOW + 60, 1, Fault.GRANT)
    assert grant.failing_since == NOW + 60
    assert grant.served_at == NOW


async def test_three_doubts_within_ten_minutes_are_an_incident(vault: Vault) -> None:
    await serve(vault, "a", "b", "c", "d")
    done = await ask(vault, REJECTED, NOW + 60, "a", "b", "c", "d")
    told = [committed.incident for committed in done]
    assert told == [None, None, Incident("crm", 3, NOW + 60), None]
    assert await at(vault, NOW + 61).incidents_over() == []
    await ask(vault, answered("at-2"), NOW + 90, "a", "b", "c")
    assert await at(vault, NOW + 91).incidents_over() == []
    await ask(vault, answered("at-2"), NOW + 92, "d")
    assert await at(vault, NOW + 93).incidents_over() == [Incident("crm", 4, NOW + 60)]
    assert await at(vault, NOW + 94).incidents_over() == []


async def test_doubts_far_apart_are_none(vault: Vault) -> None:
    await serve(vault, "a", "b", "c")
    for number, name in enumerate("abc"):
        [committed] = await ask(vault, REJECTED, NOW + 400 * (number + 1), name)
        assert committed.incident is None


async def test_what_is_lost_counts_for_no_incident(vault: Vault) -> None:
    """Seeds never served, and refusals after an open exchange."""
    await sow(vault, *(make_seed(name, f"rt-{name}") for name in "abc"))
    assert all(c.incident is None for c in await ask(vault, REJECTED, NOW, *"abc"))
    await serve(vault, "d", "e", "f")
    for name in "def":
        await ask(vault, UNKNOWN, NOW + 10, name)
    assert all(c.incident is None for c in await ask(vault, REJECTED, NOW + 20, *"def"))


async def test_after_an_outage_only_what_the_endpoint_failed_is_hastened(vault: Vault) -> None:
    await serve(vault, "endpoint-1", "endpoint-2", "own", "fresh")
    due = {}
    for name in ("endpoint-1", "endpoint-2"):
        [committed] = await ask(vault, NOT_SENT, NOW + 60, name)
        assert committed.grant is not None
        await set_columns(vault, name, due_at=NOW + 300)
    await set_columns(vault, "own", fault=Fault.GRANT.value, due_at=NOW + 300)
    due["fresh"] = (await get(vault, "fresh")).due_at
    await at(vault, NOW + 100).hastening.after_outage(["crm"], 0.5)
    found = [await get(vault, f"endpoint-{number}") for number in (1, 2)]
    instants = sorted(grant.due_at or 0.0 for grant in found)
    assert instants == [NOW + 100, NOW + 100.5]
    assert (await get(vault, "own")).due_at == NOW + 300
    assert (await get(vault, "fresh")).due_at == due["fresh"]


async def test_nothing_becomes_later_by_being_hastened(vault: Vault) -> None:
    await serve(vault, *(f"g{n}" for n in range(3)))
    for number in range(3):
        await set_columns(vault, f"g{number}", fault=Fault.ENDPOINT.value, due_at=NOW + 2 + number)
    await at(vault, NOW + 1).hastening.after_outage(["crm"], 60.0)
    assert sorted(g.due_at or 0.0 for g in await vault.grants()) == [NOW + 1, NOW + 3, NOW + 4]


async def test_words_about_an_accepted_client_become_the_grants_own(vault: Vault) -> None:
    await serve(vault, "a", "b", "served")
    word = ClientRejected(error="unauthorized_client", status=403)
    await ask(vault, word, NOW + 60, "a", "b")
    found = [
        one async for page in at(vault, NOW + 70).hastening.single_out("crm", 2.0) for one in page
    ]
    assert [grant.name for grant in found] == ["a", "b"]
    for place, name in enumerate("ab"):
        grant = await get(vault, name)
        assert (grant.reason, grant.fault) == ("not_authorized:unauthorized_client", Fault.GRANT)
        assert grant.due_at == NOW + 70 + 2.0 * (place + 1)
    assert (await get(vault, "served")).reason is None
    assert [
        one async for page in at(vault, NOW + 80).hastening.single_out("crm", 2.0) for one in page
    ] == []


ODD = answered("at-2", "rt-2", is_searched=True)


async def on_probation(vault: Vault) -> Grant:
    await serve(vault, "acme")
    [committed] = await ask(vault, ODD, NOW + 60, "acme")
    assert committed.grant is not None
    assert committed.grant.on_probation
    assert holds(vault, committed.grant, "rt-2")
    return committed.grant


async def test_a_find_that_is_served_is_believed(vault: Vault) -> None:
    await on_probation(vault)
    [committed] = await ask(vault, answered("at-3"), NOW + 90, "acme")
    assert committed.grant is not None
    assert not committed.grant.on_probation
    assert holds(vault, committed.grant, "rt-2")


async def test_a_find_that_is_refused_in_passing_costs_nothing(vault: Vault) -> None:
    await on_probation(vault)
    [committed] = await ask(vault, REJECTED, NOW + 90, "acme")
    doubted = committed.grant
    assert doubted is not None
    assert (doubted.on_probation, doubted.refused_at) == (True, NOW + 90)
    again = await claim_one(vault, doubted.due_at or 0.0)
    assert again.renewal.presents == Secret("rt-2")
    served = (await finish(vault, again, answered("at-3", "rt-3"), NOW + 300)).grant
    assert served is not None
    assert holds(vault, served, "rt-3")


MEANT = replace(REJECTED, needs_person=True)


async def test_a_find_that_is_refused_gives_its_predecessor_one_more_try(vault: Vault) -> None:
    await on_probation(vault)
    [committed] = await ask(vault, MEANT, NOW + 90, "acme")
    back = committed.grant
    assert back is not None
    assert (back.on_probation, back.due_at) == (False, NOW + 90)
    assert holds(vault, back, "rt-acme-1")
    claim = await claim_one(vault, NOW + 91)
    assert claim.renewal.presents == Secret("rt-acme-1")
    assert claim.intent.is_replay
    lost = (await finish(vault, claim, REJECTED, NOW + 91)).grant
    assert lost is not None
    assert lost.status_reason == "rotation_lost"


async def test_a_predecessor_that_is_served_heals_the_grant(vault: Vault) -> None:
    await on_probation(vault)
    await ask(vault, MEANT, NOW + 90, "acme")
    healed = (
        await finish(vault, await claim_one(vault, NOW + 91), answered("at-4"), NOW + 91)
    ).grant
    assert healed is not None
    assert (healed.state, healed.reason, healed.intent) == (GrantState.FRESH, None, None)


@pytest.mark.parametrize("outcome", [UNKNOWN, NOT_SENT, GONE], ids=["lost", "unsent", "gateway"])
async def test_what_says_nothing_of_a_find_leaves_it_on_probation(
    vault: Vault, outcome: Any
) -> None:
    await on_probation(vault)
    [committed] = await ask(vault, outcome, NOW + 90, "acme")
    assert committed.grant is not None
    assert committed.grant.on_probation


async def lose(vault: Vault, *lost: str) -> None:
    refused = replace(REJECTED, needs_person=True)
    for place, name in enumerate(lost):
        await serve(vault, name, at=NOW + place)
        await ask(vault, refused, NOW + 60, name)


async def test_lost_grants_are_asked_for_the_one_served_last_first(vault: Vault) -> None:
    await lose(vault, "a", "b", "c")
    assert await at(vault, NOW + 100).hastening.ask_lost() == ["c", "b", "a"]
    assert await names(vault, room(8, doubted=1), now=NOW + 101) == ["c"]
    assert await names(vault, room(8, doubted=1), now=NOW + 101) == ["b"]


async def test_only_the_named_or_a_clients_lost_grants_are_asked_for(vault: Vault) -> None:
    await lose(vault, "a", "b")
    await serve(vault, "healthy")
    assert await at(vault, NOW + 100).hastening.ask_lost(names=["a", "healthy"]) == ["a"]
    assert await at(vault, NOW + 100).hastening.ask_lost(client="erp") == []
    assert sorted(await at(vault, NOW + 100).hastening.ask_lost(client="crm")) == ["a", "b"]


async def test_many_lost_grants_are_asked_for_page_by_page(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever commits an answer waits for one page; the order goes through all of them."""
    monkeypatch.setattr(hastening, "PAGE", 2)
    await lose(vault, "a", "b", "c", "d", "e")
    then = at(vault, NOW + 100)
    pages: list[int] = []
    write = then.hastening._write

    async def counted(operation: Any) -> Any:
        pages.append(1)
        if len(pages) == 2:
            await set_columns(vault, "b", state="fresh")  # a login has come
        return await write(operation)

    monkeypatch.setattr(then.hastening, "_write", counted)
    assert await then.hastening.ask_lost() == ["e", "d", "c", "a"]
    assert len(pages) == 3
    due = {grant.name: grant.due_at for grant in await vault.grants()}
    instants = [due[name] for name in ("e", "d", "c", "a")]
    assert instants == pytest.approx([NOW + 100 + n * hastening.ORDER for n in range(4)], abs=1e-4)


async def lost_claim(vault: Vault) -> Claim:
    await lose(vault, "acme")
    await at(vault, NOW + 100).hastening.ask_lost()
    return await claim_one(vault, NOW + 100)


async def test_a_lost_grant_that_is_served_without_a_new_refresh_token_is_back(
    vault: Vault,
) -> None:
    """The commit rule refuses such answers of earlier exchanges; this one was ordered."""
    back = (await finish(vault, await lost_claim(vault), answered("at-9"), NOW + 100)).grant
    assert back is not None
    assert back.state is GrantState.FRESH
    assert await access_token(vault) == "at-9"


async def test_a_lost_grant_refused_again_is_as_it_was(vault: Vault) -> None:
    claim = await lost_claim(vault)
    before = claim.grant
    after = (await finish(vault, claim, REJECTED, NOW + 100)).grant
    assert after is not None
    assert (after.state, after.reason, after.since) == (before.state, before.reason, before.since)
    assert (after.due_at, after.refused_at, after.intent) == (None, None, None)


async def test_a_process_that_dies_asking_for_a_lost_grant_leaves_the_order(vault: Vault) -> None:
    await lost_claim(vault)
    again = await claim_again(vault, NOW + 200)
    assert again.intent.is_replay
    assert again.grant.state is GrantState.REAUTHORIZATION_REQUIRED


async def test_a_whole_answer_that_nobody_reads_is_kept_and_deferred(vault: Vault) -> None:
    await serve(vault, "acme")
    odd = OutcomeUnknown(reason="unreadable", status=200, body=b"?token?", may_hold_tokens=True)
    await set_columns(vault, "acme", due_at=NOW + 60)
    claim = await claim_one(vault, NOW + 60, "acme")
    after = (await finish(vault, claim, odd, NOW + 60, make_client(rotation="strict"))).grant
    assert after is not None
    assert after.due_at == NOW + LIFE - 300
    assert len(await vault.kept.of_kind("unreadable")) == 1
