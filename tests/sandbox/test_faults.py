"""Every fault as a raw client sees it, and whether it spent the refresh token."""

import gzip
import time
from collections import Counter
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qs

import aiohttp
import pytest

from refresher.sandbox import (
    AlterAnswer,
    DropAfter,
    DropBefore,
    Fault,
    FaultMix,
    FaultPlan,
    Raw,
    Redirect,
    RetryAfter,
    Sandbox,
    SandboxOptions,
    Slow,
    Status,
    StatusAfter,
    Truncate,
)
from tests.sandbox.wire import refresh


def generation(sandbox: Sandbox) -> int:
    """Of the one family: 2 once its refresh token was spent."""
    (family,) = sandbox.families
    return family.generation


@pytest.mark.parametrize(
    ("fault", "status", "spent"),
    [
        pytest.param(Status(code=500), 500, False, id="status"),
        pytest.param(StatusAfter(code=504), 504, True, id="status after processing"),
        pytest.param(Raw(status=200), 200, False, id="raw"),
        pytest.param(Raw(status=403, after_processing=True), 403, True, id="raw after processing"),
        pytest.param(RetryAfter(), 429, False, id="retry after"),
        pytest.param(Redirect(code=302), 302, False, id="redirect"),
        pytest.param(Slow(seconds=0.01), 200, True, id="slow"),
        pytest.param(AlterAnswer(without=("expires_in",)), 200, True, id="altered answer"),
    ],
)
async def test_a_fault_answers_and_spends_accordingly(
    sandbox: Sandbox, fault: Fault, status: int, *, spent: bool
) -> None:
    minted = sandbox.mint()
    sandbox.faults.enqueue(fault)
    reply = await refresh(sandbox, minted.refresh_token)
    assert reply.status == status
    assert generation(sandbox) == (2 if spent else 1)
    record = sandbox.log[-1]
    assert (record.processed_at is not None) is spent
    assert (record.fault, record.status) == (fault.kind, status)
    assert sandbox.injected == Counter({fault.kind: 1})


@pytest.mark.parametrize(
    ("fault", "error", "spent"),
    [
        pytest.param(DropBefore(), aiohttp.ServerDisconnectedError, False, id="before"),
        pytest.param(DropBefore(reset=True), aiohttp.ClientOSError, False, id="reset before"),
        pytest.param(DropAfter(), aiohttp.ServerDisconnectedError, True, id="after"),
        pytest.param(DropAfter(reset=True), aiohttp.ClientOSError, True, id="reset after"),
        pytest.param(Truncate(), aiohttp.ClientPayloadError, True, id="truncated"),
    ],
)
async def test_a_cut_connection_spends_accordingly(
    sandbox: Sandbox, fault: Fault, error: type[Exception], *, spent: bool
) -> None:
    minted = sandbox.mint()
    sandbox.faults.enqueue(fault)
    with pytest.raises(error):
        await refresh(sandbox, minted.refresh_token)
    assert generation(sandbox) == (2 if spent else 1)
    record = sandbox.log[-1]
    assert not record.client_gone, "it was the server that cut"
    assert (record.answered_at is None) is not isinstance(fault, Truncate)
    assert (record.gone_at is None) is isinstance(fault, Truncate)


async def test_a_truncated_body_is_half_the_answer(sandbox: Sandbox) -> None:
    sandbox.faults.enqueue(Truncate())
    form = {
        "grant_type": "refresh_token",
        "refresh_token": sandbox.mint().refresh_token,
        "client_id": "sandbox-client",
        "client_secret": "sandbox-secret",
    }
    received = bytearray()
    async with (
        aiohttp.ClientSession() as session,
        session.post(sandbox.token_endpoint, data=form) as response,
    ):
        with pytest.raises(aiohttp.ClientPayloadError):
            await _read_into(received, response.content)
        assert len(received) == int(response.headers["Content-Length"]) // 2
    assert received.startswith(b'{"access_token"')


async def _read_into(received: bytearray, content: aiohttp.StreamReader) -> None:
    while chunk := await content.readany():
        received += chunk


async def test_slowness_lies_before_or_after_processing(sandbox: Sandbox) -> None:
    sandbox.faults.enqueue(Slow(seconds=0.05), Slow(seconds=0.05, after_processing=True))
    await refresh(sandbox, sandbox.mint().refresh_token)
    await refresh(sandbox, sandbox.mint().refresh_token)
    late, early = sandbox.log
    assert late.processed_at is not None
    assert early.processed_at is not None
    assert late.processed_at - late.arrived_at >= 0.045
    assert early.answered_at is not None
    assert early.answered_at - early.processed_at >= 0.045


async def test_retry_after_in_seconds_or_as_date(sandbox: Sandbox) -> None:
    sandbox.faults.enqueue(RetryAfter(seconds=7), RetryAfter(seconds=90, as_date=True))
    token = sandbox.mint().refresh_token
    seconds = await refresh(sandbox, token)
    date = await refresh(sandbox, token)
    assert seconds.headers["Retry-After"] == "7"
    ahead = parsedate_to_datetime(date.headers["Retry-After"]).timestamp() - time.time()
    assert 80 < ahead <= 90


async def test_a_redirect_leads_to_itself_or_away(sandbox: Sandbox) -> None:
    sandbox.faults.enqueue(Redirect(), Redirect(code=302, location="http://127.0.0.1:9/x"))
    token = sandbox.mint().refresh_token
    loop = await refresh(sandbox, token)
    away = await refresh(sandbox, token)
    assert (loop.status, loop.headers["Location"]) == (307, sandbox.token_endpoint)
    assert (away.status, away.headers["Location"]) == (302, "http://127.0.0.1:9/x")


async def test_a_raw_body_arrives_byte_for_byte(sandbox: Sandbox) -> None:
    giant = b"x" * 3_000_000
    squeezed = gzip.compress(b'{"access_token": "zipped"}')
    sandbox.faults.enqueue(
        Raw(body=giant),
        Raw(body=squeezed, headers={"Content-Encoding": "gzip"}),
        Raw(body=b"\xff\xfe", headers={"Content-Type": "application/json; charset=klingon"}),
    )
    token = sandbox.mint().refresh_token
    assert (await refresh(sandbox, token)).body == giant
    assert (await refresh(sandbox, token)).json == {"access_token": "zipped"}
    odd = await refresh(sandbox, token)
    assert odd.body == b"\xff\xfe"
    assert odd.headers["Content-Type"] == "application/json; charset=klingon"


async def test_an_altered_answer_keeps_the_rest_true(sandbox: Sandbox) -> None:
    sandbox.faults.enqueue(
        AlterAnswer(members={"expires_in": "soon", "error": "odd"}, without=("access_token",)),
        AlterAnswer(form_encoded=True),
    )
    altered = await refresh(sandbox, sandbox.mint().refresh_token)
    assert altered.json["expires_in"] == "soon"
    assert "access_token" not in altered.json
    form = await refresh(sandbox, altered.json["refresh_token"])
    assert form.headers["Content-Type"] == "application/x-www-form-urlencoded"
    token = parse_qs(form.body.decode())["refresh_token"][0]
    assert (await refresh(sandbox, token)).status == 200


async def test_a_familys_queue_meets_only_it(sandbox: Sandbox) -> None:
    one, other = sandbox.mint(), sandbox.mint()
    sandbox.faults.enqueue(Status(), family_id=one.family_id)
    sandbox.faults.enqueue(None, Status(code=502))
    assert (await refresh(sandbox, other.refresh_token)).status == 200
    assert (await refresh(sandbox, one.refresh_token)).status == 503
    assert (await refresh(sandbox, one.refresh_token)).status == 502
    assert (await refresh(sandbox, one.refresh_token)).status == 200


def test_the_same_seed_deals_the_same_faults() -> None:
    def deal(seed: int) -> list[str | None]:
        plan = FaultPlan(mix=FaultMix.of({"drop_after": 0.3, "status": 0.3}, seed=seed))
        return [fault.kind if (fault := plan.next_for(None)) else None for _ in range(200)]

    assert deal(1) == deal(1)
    assert deal(1) != deal(2)
    counts = Counter(deal(1))
    assert all(30 < counts[kind] < 110 for kind in ("drop_after", "status", None))


def test_latency_holds_the_processing_inside() -> None:
    plan = FaultPlan(latency=(0.05, 0.5))
    waits = [plan.draw_waits() for _ in range(300)]
    assert all(0.05 <= before + after <= 0.5 for before, after in waits)
    shares = [before / (before + after) for before, after in waits]
    assert min(shares) < 0.1
    assert max(shares) > 0.9


def test_a_cleared_plan_deals_nothing() -> None:
    plan = FaultPlan(mix=FaultMix.of({"status": 1.0}), latency=(1.0, 2.0))
    plan.enqueue(Status())
    plan.enqueue(Status(), family_id="family-1")
    plan.clear()
    assert plan.next_for("family-1") is None
    assert plan.draw_waits() == (0.0, 0.0)


async def test_latency_is_spent_on_each_answer() -> None:
    async with Sandbox(SandboxOptions(latency=(0.02, 0.03))) as sandbox:
        await refresh(sandbox, sandbox.mint().refresh_token)
        (record,) = sandbox.log
    assert record.answered_at is not None
    assert record.processed_at is not None
    assert record.answered_at - record.arrived_at >= 0.018
    assert record.arrived_at <= record.processed_at <= record.answered_at
