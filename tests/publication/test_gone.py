"""The channel says when the key of a token goes; status and events answer who rejected one."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from refresher.domain.grants import Answer, GrantState, Publication, Rejection
from refresher.domain.reasons import Reason
from tests.publication.world import CANARY, CLOCK, KEYS, publication, publishing
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

Messages = list[dict[str, Any]]


@contextmanager
def listening(client: Redis, name: str = "acme") -> Iterator[Messages]:
    """What the channel of NAME says, once ``heard`` has read it."""
    with client.pubsub() as subscription:  # type: ignore[no-untyped-call]  # of redis-py
        subscription.subscribe(KEYS.token(name))
        messages: Messages = []

        def read() -> None:
            while (message := subscription.get_message(timeout=0.2)) is not None:
                if message["type"] == "message":
                    messages.append(json.loads(message["data"]))

        read()
        yield messages
        read()


def later(row: Publication, **changes: Any) -> Publication:
    """ROW with the next revision, and CHANGES."""
    now_ms = int(CLOCK.now() * 1000)
    changes = {"revision": max(row.grant.revision + 1, now_ms)} | changes
    return replace(row, grant=replace(row.grant, **changes))


def without_token(row: Publication, **changes: Any) -> Publication:
    gone = later(row, expires_at=None, issued_at=None, due_at=None, **changes)
    return replace(gone, access_token=None)


WITHDRAWN: dict[str, dict[str, Any]] = {
    "removed": {"state": GrantState.REMOVED, "reason": Reason.REMOVED_HERE},
    "revoked": {
        "state": GrantState.REAUTHORIZATION_REQUIRED,
        "reason": Reason.REVOKED_HERE,
    },
}


@pytest.mark.parametrize("changes", WITHDRAWN.values(), ids=WITHDRAWN)
@pytest.mark.parametrize("is_there", [True, False], ids=["key there", "key lost"])
async def test_what_is_taken_away_is_said(
    shared_valkey: Valkey,
    changes: dict[str, Any],
    is_there: bool,  # noqa: FBT001  a parameter
) -> None:
    """Also where Redis had lost the key: who holds the token still has to hear of it."""
    row = publication(version=7)
    with shared_valkey.client() as client:
        async with publishing(shared_valkey.url) as publisher:
            await publisher.publish([row], now=CLOCK.now())
            if not is_there:
                client.delete(KEYS.token("acme"))
            with listening(client) as messages:
                gone = without_token(row, **changes)
                for _ in range(2):
                    await publisher.publish([gone], now=CLOCK.now())
    assert messages == [{"version": 7, "state": changes["state"].value}]


async def ended(valkey: Valkey, row: Publication, client: Redis) -> None:
    """Let the token of ROW end in Redis and by the clock."""
    async with publishing(valkey.url) as publisher:
        await publisher.publish([row], now=CLOCK.now())
    await eventually(lambda: not client.exists(KEYS.token("acme")), "its end")
    assert row.grant.expires_at is not None
    await eventually(lambda: CLOCK.now() > (row.grant.expires_at or 0), "the same here")


STATES: dict[str, dict[str, Any]] = {
    "its refresh fails": {"state": GrantState.EXPIRED},
    "lost before": {"state": GrantState.REAUTHORIZATION_REQUIRED, "reason": "revoked"},
    "paused before": {"state": GrantState.PAUSED, "reason": "outcome_unknown"},
}


@pytest.mark.parametrize("changes", STATES.values(), ids=STATES)
async def test_a_token_that_ended_is_said_once(
    shared_valkey: Valkey, changes: dict[str, Any]
) -> None:
    row = publication(version=7, life=0.4)
    if changes["state"] is not GrantState.EXPIRED:
        row = later(row, **changes)  # the state is nothing new when the token ends
    with shared_valkey.client() as client:
        await ended(shared_valkey, row, client)
        async with publishing(shared_valkey.url) as publisher:
            with listening(client) as messages:
                await publisher.publish([later(row, **changes)], now=CLOCK.now())
                again = later(later(row, **changes), reason="another", failures=2)
                await publisher.publish([again], now=CLOCK.now())
    assert messages == [{"version": 7, "state": changes["state"].value}]


async def test_a_lost_grant_whose_token_lives_says_nothing(shared_valkey: Valkey) -> None:
    row = publication(version=7)
    with shared_valkey.client() as client:
        async with publishing(shared_valkey.url) as publisher:
            await publisher.publish([row], now=CLOCK.now())
            with listening(client) as messages:
                lost = later(row, state=GrantState.REAUTHORIZATION_REQUIRED, reason="revoked")
                await publisher.publish([lost], now=CLOCK.now())
        assert client.hget(KEYS.token("acme"), "access_token") == f"{CANARY}-7"
        assert client.hget(KEYS.status("acme"), "state") == "reauthorization_required"
        [_, _, (_, event)] = client.xrange(KEYS.events)
        assert (event["event"], event["state"]) == ("state", "reauthorization_required")
    assert messages == []


async def test_a_grant_that_never_had_a_token_says_nothing(shared_valkey: Valkey) -> None:
    row = without_token(publication(version=0), state=GrantState.PENDING)
    with shared_valkey.client() as client:
        async with publishing(shared_valkey.url) as publisher:
            with listening(client) as messages:
                await publisher.publish([row], now=CLOCK.now())
                removed = without_token(row, state=GrantState.REMOVED)
                await publisher.publish([removed], now=CLOCK.now())
    assert messages == []


async def test_an_answer_is_told_in_status_and_events(shared_valkey: Valkey) -> None:
    row = publication(version=7)
    until = CLOCK.now() + 20
    answers = [
        Rejection(7, Answer.DEFERRED, until),
        Rejection(7, Answer.DEFERRED, until),
        Rejection(7, Answer.PAUSED, None),
        Rejection(6, Answer.PAUSED, None),  # of the token before: no answer to anybody now
        None,
    ]
    seen = []
    with shared_valkey.client() as client:
        async with publishing(shared_valkey.url) as publisher:
            await publisher.publish([row], now=CLOCK.now())
            for answer in answers:
                row = later(row, rejection=answer)
                await publisher.publish([row], now=CLOCK.now())
                seen.append(client.hmget(KEYS.status("acme"), "request", "request_until"))
        events = [event for _, event in client.xrange(KEYS.events)]
    told = [event for event in events if event["event"] == "request"]
    deferred = ["deferred", str(int(until))]
    assert seen == [deferred, deferred, ["paused", None], [None, None], [None, None]]
    assert [(event["version"], event["request"]) for event in told] == [
        ("7", "deferred"),
        ("7", "paused"),
    ]
    assert told[0]["request_until"] == str(int(until))
