"""Logins by a code on another machine: the pace of the polls, their end, and what is kept."""

from collections.abc import Sequence

import anyio
import pytest

from refresher.domain.clients import Client
from refresher.domain.outcomes import ClientRejected, NotSent, Outcome, RequestRejected, Transient
from refresher.domain.secret import Secret
from refresher.engine.device_logins import ASKING, POLL_DEADLINE, DeviceLogins
from refresher.engine.first_tokens import Authorized
from refresher.errors import AuthorizationFailed
from refresher.logs import Event
from refresher.oauth.device_authorization import DeviceAuthorization
from refresher.oauth.patience import Patience
from refresher.vault.logins import LOGINS_OPEN
from refresher.vault.vault import Vault
from tests.engine.office import open_office
from tests.engine.world import Lines
from tests.vault.world import CRM, access_token, answered, clock_of, get, make_seed, sow

PENDING = Transient(reason="authorization_pending", status=400)
SLOW_DOWN = Transient(reason="slow_down", status=400)


class Server:
    """Makes device codes, and answers polls in turn."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self.outcomes = list(outcomes)
        self.scopes: list[tuple[str, ...]] = []
        self.polls: list[str] = []

    async def begin(self, client: Client, scope: tuple[str, ...]) -> DeviceAuthorization:
        assert client.name == CRM.name
        self.scopes.append(scope)
        return DeviceAuthorization(
            device_code=Secret("canary-code"),
            user_code="CODE",
            verification_uri="https://crm.example/device",
            verification_uri_complete=None,
            expires_in=600,
            interval=5.0,
        )

    async def poll(self, client: Client, code: Secret, *, patience: Patience) -> Outcome:
        assert patience.deadline > 0
        self.polls.append(f"{client.name} {code.reveal()}")
        return self.outcomes.pop(0)


def device_logins(vault: Vault, server: Server) -> DeviceLogins:
    office = open_office(vault)
    logins = office.logins
    return DeviceLogins(
        vault=vault,
        clients=office.clients,
        endpoint=server,
        begin=server.begin,
        targets=logins.targets,
        first_tokens=logins.first_tokens,
        clock=vault.clock,
    )


async def test_it_is_polled_at_the_servers_pace_until_somebody_consents(
    vault: Vault, lines: Lines
) -> None:
    server = Server([PENDING, SLOW_DOWN, NotSent(reason="refused"), answered("at-1", "rt-1")])
    logins, clock = device_logins(vault, server), clock_of(vault)
    login = await logins.begin("acme", client_name="crm")
    assert (await get(vault)).state.value == "pending"
    assert await logins.poll(login.id) == 5, "nothing is asked before the interval has passed"
    waits: list[float] = []
    done: Authorized | float = 5.0
    while isinstance(done, float):
        clock.move(done)
        done = await logins.poll(login.id)
        waits += [done] if isinstance(done, float) else []
    assert waits == [5, 10, 10]
    assert server.polls == ["crm canary-code"] * 4
    assert done.grant == await get(vault)
    assert await access_token(vault) == "at-1"
    [told] = lines.of(Event.GRANT_AUTHORIZED)
    assert told["grant"] == "acme"
    again = await logins.poll(login.id)
    assert isinstance(again, Authorized), "whoever was not told asks again"
    assert again.grant == done.grant
    assert len(server.polls) == 4


async def test_one_process_asks_at_a_time_and_another_goes_on(vault: Vault) -> None:
    asked, go_on = anyio.Event(), anyio.Event()

    async def hanging(client: Client, code: Secret, *, patience: Patience) -> Outcome:
        assert (client, code.reveal()) == (CRM, "canary-code")
        assert patience.deadline == POLL_DEADLINE
        asked.set()
        await go_on.wait()
        return SLOW_DOWN

    server, other = Server([]), Server([answered("at-1", "rt-1")])
    server.poll = hanging  # type: ignore[method-assign]  # a script of its own
    logins, others = device_logins(vault, server), device_logins(vault, other)
    login = await logins.begin("acme", client_name="crm")
    clock_of(vault).move(5)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(logins.poll, login.id)
        await asked.wait()
        assert await others.poll(login.id) == ASKING
        go_on.set()
    assert other.polls == []
    assert await others.poll(login.id) == 10, "the pace is the login's, whoever asks"
    clock_of(vault).move(10)
    assert isinstance(await others.poll(login.id), Authorized)


async def test_a_poll_that_died_with_its_process_is_made_again(vault: Vault) -> None:
    login = await device_logins(vault, Server([])).begin("acme", client_name="crm")
    clock_of(vault).move(5)
    found = await vault.logins.find(login.id)
    assert found is not None
    now = clock_of(vault).now()
    assert await vault.logins.begin_poll(found, now + ASKING)
    assert not await vault.logins.begin_poll(found, now + ASKING)
    logins = device_logins(vault, Server([answered("at-1", "rt-1")]))
    assert await logins.poll(login.id) == ASKING
    clock_of(vault).move(ASKING)
    assert isinstance(await logins.poll(login.id), Authorized)


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (RequestRejected(error="expired_token", status=400), "expired before anybody consented"),
        (ClientRejected(error="access_denied", status=403), "refused the access"),
        (ClientRejected(error="invalid_client", status=401), "refused client crm itself"),
    ],
)
async def test_an_end_without_tokens_ends_the_login(
    vault: Vault, outcome: Outcome, said: str
) -> None:
    await sow(vault, make_seed())
    logins = device_logins(vault, Server([outcome]))
    login = await logins.begin("acme")
    clock_of(vault).move(5)
    with pytest.raises(AuthorizationFailed, match=said):
        await logins.poll(login.id)
    with pytest.raises(AuthorizationFailed, match="is not known any more"):
        await logins.poll(login.id)


async def test_a_code_that_is_over_is_not_asked_for(vault: Vault) -> None:
    await sow(vault, make_seed(scope=("a", "b")))
    server = Server([])
    logins = device_logins(vault, server)
    login = await logins.begin("acme")
    assert server.scopes == [("a", "b")]
    clock_of(vault).move(601)
    with pytest.raises(AuthorizationFailed, match="expired before anybody consented"):
        await logins.poll(login.id)
    assert server.polls == []


async def test_the_oldest_login_gives_way(vault: Vault) -> None:
    await sow(vault, make_seed())
    logins = device_logins(vault, Server([]))
    first, *_, last = [await logins.begin("acme") for _ in range(LOGINS_OPEN + 1)]
    with pytest.raises(AuthorizationFailed, match="is not known any more"):
        await logins.poll(first.id)
    assert await logins.poll(last.id) == 5
