"""Version and revision of a name only grow, whatever happens to the grant and to the clock."""

from collections.abc import Awaitable, Callable
from itertools import count

import pytest

from refresher.domain.grants import Grant
from refresher.domain.secret import Secret
from refresher.vault.vault import Vault
from tests.vault.world import (
    LIFE,
    NOT_SENT,
    NOW,
    answered,
    at,
    claim_one,
    finish,
    get,
    login_of,
    make_seed,
    refresh,
    sow,
    static_seed,
)

Step = Callable[[Vault, float], Awaitable[object]]

numbers = count()


async def add(vault: Vault, now: float) -> None:
    await sow(vault, make_seed(refresh_token=f"rt-{next(numbers)}"), now=now)


async def succeed(vault: Vault, now: float) -> None:
    await at(vault, now).request_refresh("acme")
    await refresh(vault, answered(f"at-{now}"), now)


async def fail(vault: Vault, now: float) -> None:
    await at(vault, now).request_refresh("acme")
    await refresh(vault, NOT_SENT, now)


async def log_in(vault: Vault, now: float) -> None:
    change = login_of(await get(vault), answered("at-login", f"rt-login-{next(numbers)}"), now)
    await at(vault, now).authorize("acme", change)


async def remove(vault: Vault, now: float) -> None:
    await at(vault, now).remove("acme")


async def stored(vault: Vault) -> Grant:
    """The row of the name, also after its removal."""
    [publication] = await vault.read(["acme"])
    return publication.grant


LIVES: dict[str, list[Step]] = {
    "refreshed": [add, succeed, succeed, fail, succeed],
    "logged in": [add, log_in, succeed, log_in],
    "removed and added again": [add, succeed, remove, add, succeed, remove, add, fail, succeed],
    "seeded anew": [add, succeed, add, succeed],
}


@pytest.mark.parametrize("drift", [100.0, 0.0, -50.0], ids=["forward", "standing", "backward"])
@pytest.mark.parametrize("steps", LIVES.values(), ids=LIVES)
async def test_versions_and_revisions_only_grow(
    vault: Vault, steps: list[Step], drift: float
) -> None:
    now = NOW
    await steps[0](vault, now)
    before = await stored(vault)
    for step in steps[1:]:
        now += drift
        await step(vault, now)
        after = await stored(vault)
        brought_a_token = step in (succeed, log_in)
        assert after.revision > before.revision
        assert (after.version > before.version) is brought_a_token
        before = after


async def test_a_version_is_the_time_in_milliseconds(vault: Vault) -> None:
    await sow(vault, make_seed())
    grant = await refresh(vault, answered("at-1", "rt-1"), NOW + 0.25)
    assert grant.version == int((NOW + 0.25) * 1000)


async def test_two_versions_in_one_millisecond_differ(vault: Vault) -> None:
    await sow(vault, static_seed())
    first = await get(vault, "pat")
    second = await vault.set_token("pat", Secret("static-1"), expires_at=None, token_type="Bearer")
    assert second.version == first.version + 1


async def test_a_login_grows_past_a_commit_it_missed(vault: Vault) -> None:
    """The login was computed before an exchange was committed, on a clock that was ahead."""
    await sow(vault, make_seed())
    claim = await claim_one(vault)
    change = login_of(await get(vault), answered("at-login", "rt-login"))
    committed = await finish(vault, claim, answered("at-1", "rt-1"), NOW + LIFE)
    assert committed.grant is not None
    authorized = await at(vault, NOW).authorize("acme", change)
    assert authorized.revision > committed.grant.revision
    assert authorized.version > committed.grant.version


async def test_a_removed_name_keeps_its_version(vault: Vault) -> None:
    await sow(vault, make_seed())
    grant = await refresh(vault, answered("at-1", "rt-1"))
    removed = await vault.remove("acme")
    assert removed.version == grant.version
    assert removed.revision > grant.revision
    await sow(vault, make_seed(refresh_token="rt-again"))
    again = await get(vault)
    assert again.version == grant.version
    assert again.revision > removed.revision
    assert again.uid != grant.uid
