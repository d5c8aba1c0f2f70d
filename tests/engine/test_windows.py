"""What a server that refuses early refreshes teaches a client."""

from dataclasses import replace

from refresher.domain.grants import Grant
from refresher.domain.outcomes import Outcome, TooEarly
from refresher.engine.windows import Windows
from refresher.vault.vault import Vault
from tests.domain.world import make_grant
from tests.engine.world import Call, Endpoint, assemble, run
from tests.support.clients import changed
from tests.vault.world import CRM, LIFE, NOW, answered, get, make_seed, sow

EARLY = TooEarly(error="access_denied", status=400)


def learned(number: int, window: float | None) -> Grant:
    return replace(make_grant(refresh_window=window), id=number)


def test_two_grants_teach_their_client() -> None:
    windows = Windows()
    windows.note(learned(1, 30.0))
    assert windows.of(CRM) == CRM
    windows.note(learned(1, 31.0))
    assert windows.of(CRM) == CRM, "one grant is one witness"
    windows.note(learned(2, 40.0))
    assert windows.of(CRM).quirks.refresh_window == 40.0
    windows.note(learned(3, 35.0))
    assert windows.of(CRM).quirks.refresh_window == 40.0
    windows.note(learned(2, None))
    assert windows.of(CRM) == CRM, "an earlier success took its word back"


def test_a_setting_is_not_overruled() -> None:
    windows, told = Windows(), changed(CRM, refresh_window=60.0)
    for number in (1, 2):
        windows.note(learned(number, 30.0))
    assert windows.of(told) is told


async def test_the_third_grant_need_not_be_refused_first(vault: Vault) -> None:
    served_at: dict[str, float] = {}

    async def script(call: Call) -> Outcome:
        name, now = call.secret.split("-")[1], parts.clock.now()
        if name in served_at and now < served_at[name] + LIFE - 400:
            return EARLY
        served_at[name] = now
        return answered(f"at-{name}-{now}", f"rt-{name}-{now}")

    parts = assemble(vault, Endpoint(script))
    await sow(vault, *(make_seed(name, f"rt-{name}") for name in ("a", "b", "c")))
    for name in ("a", "b"):
        await run(parts, name)
        for _ in range(6):
            due_at = (await get(vault, name)).due_at
            assert due_at is not None
            parts.clock.move(max(due_at - parts.clock.now(), 0.0))
            await run(parts, name)
            if (await get(vault, name)).early_refusals == 0:
                break
        assert (await get(vault, name)).refresh_window is not None
    asked = len(parts.endpoint.calls)
    await run(parts, "c")
    grant = await get(vault, "c")
    assert grant.refresh_window is None
    assert grant.due_at is not None
    assert grant.expires_at is not None
    assert grant.due_at >= grant.expires_at - 400
    assert len(parts.endpoint.calls) == asked + 1
    assert parts.clock.now() > NOW
