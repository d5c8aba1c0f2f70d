"""Tokens of an earlier life of the vault: which are left alone, and what then becomes of them."""

from dataclasses import replace
from typing import Any

import anyio
import pytest

from refresher.domain.grants import Grant, GrantKind, GrantState, Publication
from refresher.domain.reasons import Reason
from refresher.logs import Event
from refresher.publication import records
from refresher.publication.mirror.observation import (
    Difference,
    Observed,
    compare,
    is_of_earlier_life,
)
from tests.publication.world import (
    CLOCK,
    KEYS,
    Rows,
    lines_of,
    logged,
    mirroring,
    publication,
)
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

TOKEN, STATUS = KEYS.token("acme"), KEYS.status("acme")
NOW = 1_800_000_000.0
MS = int(NOW * 1000)


def grant(**changes: Any) -> Grant:
    """A grant that the settings list and nobody has authorized in this life of the vault."""
    pending = Grant(
        id=1,
        uid="uid",
        name="acme",
        kind=GrantKind.REFRESHABLE,
        client="crm",
        origin="settings",
        reason=Reason.AWAITING_LOGIN,
        revision=MS,
    )
    return replace(pending, **changes)


def without_token(**changes: Any) -> Publication:
    return Publication(grant=grant(**changes), access_token=None)


def with_token(*, issued_at: float, **changes: Any) -> Publication:
    """A grant whose own token, of version 5 unless CHANGES say otherwise, lives an hour."""
    own: dict[str, Any] = {"version": 5, "state": GrantState.FRESH, "reason": None}
    row = publication(issued_at=issued_at, expires_at=issued_at + 3600, **own | changes)
    return replace(row, grant=replace(row.grant, revision=MS))


def found(life: float = 600.0, **changes: str | None) -> Observed:
    """What an earlier life left in Redis: a token issued a minute ago that ends in LIFE."""
    token: dict[str, str | None] = {
        "access_token": "of the earlier life",
        "token_type": "Bearer",
        "version": str(MS - 60_000),
        "scope": "a",
        "issued_at": str(int(NOW) - 60),
        "expires_at": str(int(NOW) + 600),
    }
    fields = {key: value for key, value in (token | changes).items() if value is not None}
    return Observed(token=fields, life=life, status={})


KEPT = {
    "a pending grant": without_token(),
    "a grant with an older token": with_token(issued_at=NOW - 1800),
    "a grant whose own token has ended": with_token(issued_at=NOW - 9000, state=GrantState.EXPIRED),
    "a grant whose refresh token the server refused": with_token(
        issued_at=NOW - 1800,
        state=GrantState.REAUTHORIZATION_REQUIRED,
        reason="revoked:invalid_grant",
    ),
    "a static grant without a token": without_token(kind=GrantKind.STATIC, client=None),
}


@pytest.mark.parametrize("row", KEPT.values(), ids=KEPT.keys())
def test_a_token_of_an_earlier_life_is_left_alone(row: Publication) -> None:
    assert is_of_earlier_life(row, found(), NOW)
    difference = compare(row, found(), NOW)
    assert difference == Difference(spares_token=True), "only the status is missing"
    told = replace(found(), status=records.status_fields(row))
    assert compare(row, told, NOW) is None


def test_only_the_status_of_an_earlier_life_is_foreign() -> None:
    row = with_token(issued_at=NOW - 1800)
    left = replace(found(), status={"revision": str(MS + 10), "state": "fresh"})
    assert compare(row, left, NOW) == Difference(is_foreign=True, spares_token=True)


DECIDED = {
    "a removed grant": without_token(state=GrantState.REMOVED),
    "a removed grant that once had a token": without_token(version=5, state=GrantState.REMOVED),
    "a removed grant that was added again": without_token(version=5),
    "a grant that was revoked here": without_token(
        version=5, state=GrantState.REAUTHORIZATION_REQUIRED, reason=Reason.REVOKED_HERE
    ),
    "a pending grant that was revoked here": without_token(
        state=GrantState.REAUTHORIZATION_REQUIRED, reason=Reason.REVOKED_HERE
    ),
    "a static token": with_token(issued_at=NOW - 1800, kind=GrantKind.STATIC, client=None),
    "a token of ours issued later": with_token(issued_at=NOW - 30),
    "a token of ours of a higher version": with_token(issued_at=NOW - 1800, version=MS),
}


@pytest.mark.parametrize("row", DECIDED.values(), ids=DECIDED.keys())
def test_what_was_decided_in_this_life_holds(row: Publication) -> None:
    assert not is_of_earlier_life(row, found(), NOW)
    difference = compare(row, found(), NOW)
    assert difference is not None
    assert not difference.spares_token


IMPLAUSIBLE = {
    "no end": {"life": float("inf")},
    "a later end than it says": {"life": 603.0},
    "a version of the future": {"version": str(MS + 6_000)},
    "no version": {"version": None},
    "a version that is no number": {"version": "newest"},
    "no access token": {"access_token": None},
    "an empty access token": {"access_token": ""},
    "no expires_at": {"expires_at": None},
    "no issued_at": {"issued_at": None},
    "an issued_at that is no number": {"issued_at": "today"},
}


@pytest.mark.parametrize("changes", IMPLAUSIBLE.values(), ids=IMPLAUSIBLE.keys())
@pytest.mark.parametrize(
    "row", [without_token(), with_token(issued_at=NOW - 1800)], ids=["pending", "older"]
)
def test_what_no_vault_made_is_not_left(row: Publication, changes: dict[str, Any]) -> None:
    assert not is_of_earlier_life(row, found(**changes), NOW)
    assert compare(row, found(**changes), NOW) is not None


def test_nothing_is_no_token_of_an_earlier_life() -> None:
    assert not is_of_earlier_life(without_token(), Observed(token={}, life=0, status={}), NOW)


def leave(valkey: Valkey, **changes: Any) -> None:
    """Put a token of an earlier life, issued a minute ago for ten, with its status into Redis."""
    now = CLOCK.now()
    token = found().token | {
        "version": str(int((now - 60) * 1000)),
        "issued_at": str(int(now) - 60),
        "expires_at": str(int(now) + 540),
    }
    with valkey.client() as client:
        client.hset(TOKEN, mapping=token | changes)
        client.expire(TOKEN, 539)
        client.hset(STATUS, mapping={"state": "fresh", "revision": str(int((now + 9) * 1000))})


def pending_now() -> Publication:
    return without_token(revision=int(CLOCK.now() * 1000))


def shown(valkey: Valkey) -> tuple[str | None, str | None]:
    with valkey.client() as client:
        return client.hget(TOKEN, "access_token"), client.hget(STATUS, "state")


async def test_a_mirror_leaves_it_and_tells_the_status_as_it_is(shared_valkey: Valkey) -> None:
    leave(shared_valkey)
    rows = Rows(pending_now())
    with logged() as lines:
        async with mirroring(shared_valkey.url, rows, sweep_every=0.1):
            told = ("of the earlier life", "pending")
            await eventually(lambda: shown(shared_valkey) == told, "the status")
            await anyio.sleep(0.5)  # several walks
            assert shown(shared_valkey) == told
    (kept,) = lines_of(lines, Event.EARLIER_LIFE_KEPT)
    assert kept["grant"] == "acme"
    assert rows.newer.keys() == {"acme"}
    assert "of the earlier life" not in str(lines)
    (foreign,) = lines_of(lines, Event.FOREIGN_OVERWRITTEN)
    assert foreign.keys() & {"version", "revision"} == {"revision"}


async def test_the_next_token_of_the_vault_replaces_it(shared_valkey: Valkey) -> None:
    leave(shared_valkey)
    rows = Rows(pending_now())
    with logged() as lines:
        async with mirroring(shared_valkey.url, rows) as mirror:
            await eventually(lambda: lines_of(lines, Event.EARLIER_LIFE_KEPT), "its line")
            now = int(CLOCK.now() * 1000)
            rows.put(publication(version=now, revision=now + 20_000))
            mirror.publish("acme")
            await eventually(
                lambda: shown(shared_valkey) == (f"canary-access-token-{now}", "fresh"), "ours"
            )
    assert [one.get("version") for one in lines_of(lines, Event.FOREIGN_OVERWRITTEN)] in (
        [],
        [None],  # the status alone
    )


async def test_what_is_put_there_later_is_left_too_and_told_again(shared_valkey: Valkey) -> None:
    leave(shared_valkey)
    with logged() as lines:
        async with mirroring(shared_valkey.url, Rows(pending_now())) as mirror:
            await eventually(lambda: lines_of(lines, Event.EARLIER_LIFE_KEPT), "its line")
            with shared_valkey.client() as client:
                client.delete(TOKEN)
            spared = mirror._reconciler._spared
            await eventually(lambda: "acme" not in spared, "its absence was seen")
            leave(shared_valkey)
            await eventually(
                lambda: len(lines_of(lines, Event.EARLIER_LIFE_KEPT)) == 2, "another line"
            )
            told = ("of the earlier life", "pending")
            await eventually(lambda: shown(shared_valkey) == told, "the status")


@pytest.mark.parametrize(
    "change",
    [{"version": str(int((CLOCK.now() + 86_400) * 1000))}, {"issued_at": ""}],
    ids=["a version of the future", "no instant of issue"],
)
async def test_what_no_vault_made_is_removed_and_told(
    shared_valkey: Valkey, change: dict[str, str]
) -> None:
    leave(shared_valkey, **change)
    with logged() as lines:
        async with mirroring(shared_valkey.url, Rows(pending_now())):
            await eventually(lambda: shown(shared_valkey) == (None, "pending"), "its removal")
            await eventually(lambda: lines_of(lines, Event.FOREIGN_OVERWRITTEN), "its line")
    assert lines_of(lines, Event.EARLIER_LIFE_KEPT) == []
