"""Metadata in the vault: asked for in time, believed with care, kept through restarts."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import pytest
import sqlalchemy as sa

from refresher.domain.clients import Client
from refresher.domain.discovery import Discovery, Metadata, Registration
from refresher.domain.secret import Secret
from refresher.engine.discovering import READ_EVERY, RECENT, Discovering
from refresher.engine.registering import Registering
from refresher.errors import (
    AuthorizationFailed,
    DiscoveryFailed,
    RegistrationFailed,
    VaultUnavailable,
)
from refresher.logs import Event
from refresher.vault.schema import client_records
from refresher.vault.vault import Vault
from tests.engine.world import Lines
from tests.support.clients import make_client
from tests.support.waiting import eventually
from tests.vault.sealed import execute
from tests.vault.world import FakeClock, clock_of, set_writable

ISSUER = "https://as.example"
ENDPOINTS = {"token_endpoint": f"{ISSUER}/token", "registration_endpoint": f"{ISSUER}/register"}
BARE = make_client(
    "app",
    token_endpoint="",
    issuer=ISSUER,
    discovery=Discovery(issuer=ISSUER, told=frozenset({"client_id"})),
)
UNREGISTERED = replace(BARE, client_id="", discovery=Discovery(issuer=ISSUER))


@dataclass
class Desk:
    """Clients whose server answers what a test says."""

    vault: Vault
    clock: FakeClock
    clients: dict[str, Client]
    metadata: Metadata | None = None
    asked: int = 0
    exchanged: list[Client] = field(default_factory=list)
    made: int = 0
    may_answer: anyio.Event | None = None
    """Until when the server keeps its answer back; None answers at once."""

    def __post_init__(self) -> None:
        self.discovering = Discovering(
            vault=self.vault,
            read=self._read,
            clients=self.clients,
            exchange=self._exchange,
            clock=self.vault.clock,
        )
        self.registering = Registering(
            vault=self.vault,
            register=self._register,
            discovering=self.discovering,
            clients=self.clients,
            clock=self.vault.clock,
        )

    @property
    def app(self) -> Client:
        return self.clients["app"]

    def tells(self, endpoints: Mapping[str, str] = ENDPOINTS, **more: str) -> None:
        """Let the server tell ENDPOINTS and MORE of them from now on."""
        told = {**endpoints, **more}
        self.metadata = Metadata(source=ISSUER, issuer=ISSUER, read_at=0.0, endpoints=told)

    async def restarted(self, client: Client) -> "Desk":
        """The desk of the next process, which knows what the vault keeps."""
        desk = Desk(self.vault, self.clock, {"app": client}, self.metadata)
        desk.clients.update(await desk.discovering.recalled(desk.clients))
        return desk

    async def _read(self, _: Client, now: float) -> Metadata:
        self.asked += 1
        if self.may_answer is not None:
            await self.may_answer.wait()
        if self.metadata is None:
            raise DiscoveryFailed("it is away: wait", passes=True)
        return replace(self.metadata, read_at=now)

    async def _register(self, client: Client, _: Metadata | None, now: float) -> Registration:
        self.made += 1
        assert client.endpoints.registration is not None
        return Registration(
            server=ISSUER,
            client_id=f"made-{self.made}",
            client_authentication="client_secret_basic",
            registered_at=now,
            client_secret=Secret(f"made-secret-{self.made}"),
            client_secret_expires_at=now + 86_400.0,
        )

    async def _exchange(self, client: Client) -> None:
        self.clients[client.name] = client
        self.exchanged.append(client)


def one(lines: Lines, event: Event) -> dict[str, Any]:
    [line] = lines.of(event)
    return line


def desk_of(vault: Vault, client: Client = BARE) -> Desk:
    return Desk(vault, clock_of(vault), {"app": client})


async def test_what_is_told_is_kept(vault: Vault, lines: Lines) -> None:
    desk = desk_of(vault)
    desk.tells()
    await desk.discovering.discover(desk.app)
    assert desk.app.endpoints.token == f"{ISSUER}/token"
    assert desk.exchanged == [desk.app]
    again = await desk.restarted(BARE)
    assert again.app == desk.app
    assert again.asked == 0
    assert one(lines, Event.METADATA_READ)["server"] == ISSUER
    [noted] = await vault.changes.page(after=0, limit=9, grant=None)
    assert (noted.what, noted.by, noted.client, noted.detail) == (
        *("discovered", "daemon", "app"),
        ISSUER,
    )
    rows = await vault._database.read(lambda c: c.execute(sa.select(client_records.c.sealed)).all())
    assert all(b"as.example" not in row.sealed for row in rows)


async def test_they_are_read_again_within_a_day_and_sooner_at_a_login(vault: Vault) -> None:
    desk = desk_of(vault)
    desk.tells()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(desk.discovering.run)
        await eventually(lambda: desk.asked == 1, "an unknown server is asked")
        await eventually(lambda: desk.app.endpoints.token, "its word counts")
        tasks.cancel_scope.cancel()
    assert not desk.discovering._due()
    await desk.discovering.ready(desk.app)
    assert desk.asked == 1
    desk.clock.move(RECENT)
    await desk.discovering.ready(desk.app)
    assert desk.asked == 2
    desk.clock.move(READ_EVERY * 0.89)
    assert not desk.discovering._due()
    desk.clock.move(READ_EVERY * 0.11)
    assert desk.discovering._due() == ["app"]
    again = await desk.restarted(BARE)
    assert again.discovering._due() == ["app"]


async def test_a_login_joins_the_reading_that_is_under_way(vault: Vault, lines: Lines) -> None:
    desk = desk_of(vault)
    desk.tells()
    desk.may_answer = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(desk.discovering.run)
        await eventually(lambda: desk.asked == 1, "an unknown server is asked")
        async with anyio.create_task_group() as logins:
            for _ in range(2):
                logins.start_soon(desk.discovering.ready, desk.app)
            await anyio.wait_all_tasks_blocked()
            desk.may_answer.set()
        tasks.cancel_scope.cancel()
    assert desk.asked == 1
    assert one(lines, Event.METADATA_READ)["server"] == ISSUER
    assert desk.exchanged == [desk.app]


async def test_a_server_that_is_away_costs_nothing_that_is_known(
    vault: Vault, lines: Lines
) -> None:
    desk = desk_of(vault)
    with pytest.raises(DiscoveryFailed):
        await desk.discovering.ready(desk.app)
    assert desk.discovering.doubts(desk.app)[-1] == "it is away: wait"
    assert not desk.discovering._due()
    desk.clock.move(5)
    assert desk.discovering._due() == ["app"], "tried again soon"
    desk.tells()
    await desk.discovering.ready(desk.app)
    known = desk.app
    desk.metadata = None
    desk.clock.move(2 * READ_EVERY)
    assert await desk.discovering.ready(known) == known
    assert [line["reason"] for line in lines.all() if line["event"] == "metadata.missed"] == [
        "it is away: wait",
        "it is away: wait",
    ]


async def test_nothing_moves_to_another_host_until_a_person_says_so(
    vault: Vault, lines: Lines
) -> None:
    desk = desk_of(vault)
    desk.tells()
    await desk.discovering.discover(desk.app)
    desk.tells(token_endpoint="https://evil.example/token")
    for _ in range(2):
        await desk.discovering.discover(desk.app)
        assert desk.app.endpoints.token == f"{ISSUER}/token"
    refused = one(lines, Event.METADATA_REFUSED)
    assert refused["reason"] == "token_endpoint from as.example:443 to evil.example:443"
    [doubt] = desk.discovering.doubts(desk.app)
    assert doubt == refused["repair"]
    assert "refresher discover app --accept" in doubt
    again = await desk.restarted(BARE)
    await again.discovering.discover(again.app)
    assert again.app.endpoints.token == f"{ISSUER}/token", "nor after a restart"
    await again.discovering.discover(again.app, accept=True)
    assert again.app.endpoints.token == "https://evil.example/token"
    assert again.discovering.doubts(again.app) == []


async def test_another_path_of_the_same_host_counts_and_is_told(vault: Vault, lines: Lines) -> None:
    desk = desk_of(vault)
    desk.tells()
    await desk.discovering.discover(desk.app)
    desk.tells(token_endpoint=f"{ISSUER}/v2/token")
    await desk.discovering.discover(desk.app)
    assert desk.app.endpoints.token == f"{ISSUER}/v2/token"
    assert one(lines, Event.METADATA_CHANGED)["reason"] == f"token_endpoint: {ISSUER}/v2/token"


async def test_settings_loaded_meanwhile_win(vault: Vault) -> None:
    desk = desk_of(vault)
    desk.tells()
    before = desk.app
    desk.clients["app"] = replace(before, discovery=Discovery(issuer="https://new.example"))
    await desk.discovering.discover(before)
    assert desk.exchanged == []
    assert desk.discovering.known("app").metadata is None


async def test_what_was_altered_in_the_vault_is_not_believed(vault: Vault, lines: Lines) -> None:
    desk = desk_of(vault)
    desk.tells()
    await desk.discovering.discover(desk.app)
    await execute(vault, sa.update(client_records).values(client="other"))
    other = replace(BARE, name="other")
    again = Desk(vault, desk.clock, {"other": other})
    again.clients.update(await again.discovering.recalled(again.clients))
    assert again.clients == {"other": other}
    assert "does not open" in one(lines, Event.METADATA_MISSED)["reason"]


async def test_what_the_vault_does_not_keep_does_not_count(vault: Vault) -> None:
    desk = desk_of(vault)
    desk.tells()
    set_writable(vault, writable=False)
    with pytest.raises(VaultUnavailable):
        await desk.discovering.discover(desk.app)
    assert desk.exchanged == []


async def test_a_login_is_refused_where_tokens_would_be_bound(vault: Vault) -> None:
    desk = desk_of(vault)
    desk.tells()
    assert desk.metadata is not None
    desk.metadata = replace(desk.metadata, demands_proof=True)
    with pytest.raises(AuthorizationFailed, match="DPoP"):
        await desk.discovering.ready(desk.app)


async def test_a_registered_client_is_used_and_its_end_told(vault: Vault, lines: Lines) -> None:
    desk = desk_of(vault, UNREGISTERED)
    desk.tells()
    await desk.registering.register("app")
    assert (desk.app.client_id, desk.app.authentication.password) == (
        "made-1",
        Secret("made-secret-1"),
    )
    with pytest.raises(RegistrationFailed, match="--again gets it another client id"):
        await desk.registering.register("app")
    await desk.registering.register("app", again=True)
    assert desk.app.client_id == "made-2"
    again = await desk.restarted(UNREGISTERED)
    assert again.app == desk.app
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(again.discovering.run)
        told = Event.REGISTRATION_ENDING
        await eventually(lambda: lines.of(told), "the end of the secret is told")
        tasks.cancel_scope.cancel()
    assert "--again" in one(lines, told)["repair"]
    assert "made" not in "".join(map(str, lines.all()))


async def test_what_is_not_to_be_registered_is_refused(vault: Vault) -> None:
    desk = desk_of(vault)
    desk.tells()
    with pytest.raises(RegistrationFailed, match="take client_id away"):
        await desk.registering.register("app")
    with pytest.raises(AuthorizationFailed, match="there is no client other"):
        await desk.registering.register("other")
    assert desk.made == 0


async def test_nothing_is_registered_that_could_not_be_kept(vault: Vault) -> None:
    desk = desk_of(vault, UNREGISTERED)
    desk.tells()
    await desk.discovering.ready(desk.app)
    set_writable(vault, writable=False)
    with suppress(VaultUnavailable):
        await desk.registering.register("app")
    assert desk.made == 0
