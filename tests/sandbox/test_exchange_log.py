"""What the log proves: overlaps, and clients that went away."""

from collections.abc import Callable

import aiohttp
import anyio
import pytest

from refresher.sandbox import ExchangeRecord, Sandbox, Slow
from refresher.sandbox.exchange_log import overlaps
from tests.sandbox.wire import refresh
from tests.support.waiting import PATIENCE, eventually


def record(
    family_id: str | None,
    arrived_at: float,
    *,
    answered_at: float | None = None,
    gone_at: float | None = None,
) -> ExchangeRecord:
    return ExchangeRecord(
        sequence=int(arrived_at * 10),
        family_id=family_id,
        subject="owner",
        client_id="client",
        grant_type="refresh_token",
        generation=1,
        arrived_at=arrived_at,
        peer=None,
        user_agent=None,
        fault=None,
        answered_at=answered_at,
        gone_at=gone_at,
    )


@pytest.mark.parametrize(
    ("records", "pairs"),
    [
        pytest.param(
            [record("a", 1, answered_at=2), record("a", 2, answered_at=3)], 0, id="in turn"
        ),
        pytest.param(
            [record("a", 1, answered_at=2), record("a", 1.5, answered_at=3)], 1, id="overlapping"
        ),
        pytest.param(
            [record("a", 1, answered_at=2), record("b", 1.5, answered_at=3)], 0, id="two families"
        ),
        pytest.param(
            [record("a", 1, gone_at=1.2), record("a", 1.5, answered_at=3)], 0, id="gone before"
        ),
        pytest.param(
            [record("a", 1, gone_at=1.7), record("a", 1.5, answered_at=3)], 1, id="gone too late"
        ),
        pytest.param([record("a", 1), record("a", 9, answered_at=10)], 1, id="never ended"),
        pytest.param(
            [record(None, 1, answered_at=5), record(None, 2, answered_at=5)], 0, id="no family"
        ),
        pytest.param(
            [record("a", at, answered_at=9) for at in (3, 1, 2)], 3, id="each pair of three"
        ),
        pytest.param(
            [
                record("a", 1, answered_at=9),
                record("a", 2, answered_at=3),
                record("a", 4, answered_at=5),
            ],
            2,
            id="a long one over two",
        ),
    ],
)
def test_overlap_means_in_flight_together(records: list[ExchangeRecord], pairs: int) -> None:
    assert len(overlaps(records)) == pairs


async def test_requests_in_turn_do_not_overlap(sandbox: Sandbox) -> None:
    token = sandbox.mint().refresh_token
    for _ in range(20):
        token = (await refresh(sandbox, token)).json["refresh_token"]
    assert len(sandbox.log) == 20
    assert sandbox.overlaps() == []


async def test_parallel_refreshes_are_caught(sandbox: Sandbox) -> None:
    token = sandbox.mint().refresh_token
    sandbox.faults.enqueue(Slow(seconds=0.05), Slow(seconds=0.05))
    async with anyio.create_task_group() as group:
        group.start_soon(refresh, sandbox, token)
        group.start_soon(refresh, sandbox, token)
    assert sandbox.overlaps() == [(sandbox.log[0], sandbox.log[1])]
    assert sandbox.stats()["overlaps"] == 1


async def test_a_record_tells_who_asked(sandbox: Sandbox) -> None:
    minted = sandbox.mint(subject="guest")
    await refresh(sandbox, minted.refresh_token)
    (logged,) = sandbox.log
    assert (logged.sequence, logged.family_id, logged.subject) == (1, minted.family_id, "guest")
    assert (logged.generation, logged.generation_issued) == (1, 2)
    assert logged.peer is not None
    assert logged.peer[0] == "127.0.0.1"
    assert logged.user_agent is not None
    assert logged.user_agent.startswith("Python/")


async def leave_while(sandbox: Sandbox, token: str, condition: Callable[[], bool]) -> None:
    """Send a refresh and hang up as soon as the condition holds."""
    async with anyio.create_task_group() as group:
        group.start_soon(refresh, sandbox, token)
        await eventually(condition, "the moment to hang up")
        group.cancel_scope.cancel()


async def test_a_client_gone_early_is_still_processed(sandbox: Sandbox) -> None:
    minted = sandbox.mint()
    sandbox.faults.enqueue(Slow(seconds=0.15))
    await leave_while(sandbox, minted.refresh_token, lambda: len(sandbox.log) == 1)
    (logged,) = sandbox.log
    await eventually(lambda: logged.gone_at is not None, "the client noticed gone")
    assert logged.client_gone
    assert logged.processed_at is None, "noticed while the request was still waiting"
    await eventually(lambda: logged.processed_at is not None, "processed all the same")
    assert logged.answered_at is None
    assert sandbox.families.find(minted.family_id) is not None
    reply = await refresh(sandbox, minted.refresh_token)
    assert reply.json["error"] == "invalid_grant", "the refresh token was spent"


async def test_a_client_gone_late_has_spent_its_token(sandbox: Sandbox) -> None:
    minted = sandbox.mint()
    sandbox.faults.enqueue(Slow(seconds=5.0, after_processing=True))
    await leave_while(
        sandbox,
        minted.refresh_token,
        lambda: bool(sandbox.log) and sandbox.log[0].processed_at is not None,
    )
    (logged,) = sandbox.log
    await eventually(lambda: logged.client_gone, "the client noticed gone")
    assert logged.gone_at is not None
    assert logged.processed_at is not None
    assert logged.gone_at > logged.processed_at


async def test_a_retry_after_leaving_is_no_overlap(sandbox: Sandbox) -> None:
    minted = sandbox.mint()
    sandbox.faults.enqueue(Slow(seconds=5.0))
    await leave_while(sandbox, minted.refresh_token, lambda: len(sandbox.log) == 1)
    assert (await refresh(sandbox, minted.refresh_token)).status == 200
    assert sandbox.overlaps() == []


async def test_the_end_drops_what_still_waits() -> None:
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group, Sandbox() as sandbox:
            sandbox.faults.enqueue(Slow(seconds=3600.0))
            group.start_soon(_refresh_in_vain, sandbox, sandbox.mint().refresh_token)
            await eventually(lambda: len(sandbox.log) == 1, "the request arrived")
    assert sandbox.log[0].answered_at is None


async def test_an_unreachable_sandbox_keeps_its_state(sandbox: Sandbox) -> None:
    minted = sandbox.mint()
    before = sandbox.base_url
    async with sandbox.unreachable():
        with pytest.raises(OSError, match="Cannot connect"):
            await refresh(sandbox, minted.refresh_token)
    assert sandbox.base_url == before
    assert (await refresh(sandbox, minted.refresh_token)).status == 200
    assert len(sandbox.log) == 1


async def _refresh_in_vain(sandbox: Sandbox, token: str) -> None:
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await refresh(sandbox, token)
