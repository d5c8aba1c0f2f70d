"""A wall clock set back in the middle of work moves what was written before, and only that."""

from pathlib import Path

from refresher.domain.clients import Client
from refresher.domain.outcomes import ClientRejected, GrantRejected, Outcome
from refresher.domain.schedule import CLIENT_PROBE
from refresher.engine.recovery import recover
from refresher.logs import Event
from refresher.vault.vault import Vault
from tests.engine.office import open_office
from tests.engine.world import Call, Endpoint, Lines, assemble, claim, run
from tests.vault.world import (
    LIFE,
    NOW,
    UNKNOWN,
    FakeClock,
    answered,
    at,
    claim_one,
    finish,
    get,
    make_client,
    make_seed,
    opened,
    refresh,
    sow,
)


async def test_what_is_written_after_a_step_back_is_not_moved_by_it(vault: Vault) -> None:
    """The answer is there before the watch has looked at the clock."""

    async def script(_: Call) -> Outcome:
        parts.clock.step(-7200)
        return GrantRejected(error="invalid_grant", status=400)

    parts = assemble(vault, Endpoint(script))
    await sow(vault, make_seed())
    before = await refresh(vault, answered("at-0", "rt-00"))
    await at(vault, NOW).request_refresh("acme")
    await run(parts)
    for _ in range(2):
        assert [names async for names in at(vault, parts.clock.now()).steps.follow()]
        after = await get(vault)
        assert after.refused_at == NOW - 7200
        assert after.due_at is not None
        assert NOW - 7200 < after.due_at < NOW - 7200 + 300
        assert before.expires_at is not None
        assert after.expires_at == before.expires_at - 7200


async def test_a_step_while_a_secret_is_read_again_is_followed(vault: Vault) -> None:
    """It comes after the answer was dated, and before what it means is written."""

    async def reread(_: Client, __: str) -> bool:
        parts.clock.step(-7200)
        return False

    async def script(_: Call) -> Outcome:
        return ClientRejected(error="invalid_client", status=401)

    parts = assemble(vault, Endpoint(script))
    parts.refresh._reread = reread
    await sow(vault, make_seed())
    await run(parts)
    after = await get(vault)
    assert after.failing_since == NOW - 7200
    assert after.due_at is not None
    assert after.due_at <= NOW - 7200 + 3 * CLIENT_PROBE


async def test_an_echo_is_dated_by_its_first_send_across_a_step(vault: Vault) -> None:
    """The claim was made by the clock before, and the answer is dated by the one after."""
    client = make_client(rotation="until_used")

    async def script(_: Call) -> Outcome:
        parts.clock.move(1)
        parts.clock.step(-7200)
        return answered("at-1", "rt-1")

    parts = assemble(vault, Endpoint(script))
    await sow(vault, make_seed())
    await finish(vault, await claim_one(vault), UNKNOWN, NOW, client)
    await at(vault, NOW + 600).request_refresh("acme")
    parts.clock.move(600)
    await parts.refresh.run(await claim(parts), client)
    after = await get(vault)
    assert (after.issued_at, after.expires_at) == (NOW - 7200, NOW - 7200 + LIFE)


async def test_a_login_is_dated_by_the_clock_that_makes_its_token_end_earlier(
    vault: Vault,
) -> None:
    office = open_office(vault)

    async def script(_: Call) -> Outcome:
        office.clock.move(20)
        office.clock.step(-7200)
        return answered("at-1", "rt-1")

    office.endpoint.script = script
    login = await office.logins.begin("acme", client_name="crm")
    grant = (await office.logins.finish(login.id, "the-code")).grant
    assert (grant.issued_at, grant.expires_at) == (NOW - 7200, NOW - 7200 + LIFE)


async def test_a_step_between_two_runs_is_followed_and_said(tmp_path: Path, lines: Lines) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as vault:
        await sow(vault, make_seed())
        before = await refresh(vault, answered("at-1", "rt-1"))
        await recover(vault, {}, clock)
    clock.move(600)
    clock.step(-7200)
    async with opened(tmp_path, clock) as vault:
        await recover(vault, {}, clock)
        after = await get(vault)
    assert before.due_at is not None
    assert (after.issued_at, after.due_at) == (NOW - 7200, before.due_at - 7200)
    [line] = lines.of(Event.CLOCK_JUMPED)
    assert (line["offset_s"], line["reason"]) == (-7200, "measured")
