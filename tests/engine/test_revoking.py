"""Revoking: decided for good, tried at once, and gone on with; no successor lives on."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import anyio
import pytest

from refresher.domain.clients import Client, Revocation
from refresher.domain.grants import GrantState
from refresher.domain.outcomes import AnswerUnread, Outcome, Refreshed
from refresher.domain.secret import Secret
from refresher.engine import revoking
from refresher.engine.recovery import recover
from refresher.errors import AuthorizationFailed, UnknownGrant, VaultUnavailable
from refresher.logs import Event
from refresher.oauth.revocation import RevocationResult
from refresher.sandbox.families import Families, TokenPolicy
from refresher.vault.revocations import LONGEST
from refresher.vault.vault import Vault
from tests.engine.office import REVOCABLE, Office, open_office
from tests.engine.world import Call, Endpoint, Lines, assemble, claim
from tests.support.waiting import PATIENCE, eventually
from tests.vault.world import (
    CRM,
    NOW,
    UNKNOWN,
    access_token,
    answered,
    claim_one,
    finish,
    get,
    make_client,
    make_seed,
    opened,
    orphans,
    refresh,
    rooms,
    set_writable,
    sow,
    static_seed,
)

ERP = make_client("erp", revocation=Revocation(endpoint="https://erp.example/revoke"))
CLIENTS = {"crm": REVOCABLE, "erp": ERP}
UNREADY = [RevocationResult.REFUSED, RevocationResult.UNKNOWN, RevocationResult.NOT_SENT]


def office_of(vault: Vault, result: RevocationResult = RevocationResult.REVOKED) -> Office:
    """An office whose servers answer RESULT."""
    office = open_office(vault, clients=CLIENTS)
    office.revocations.result = result
    return office


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon looks often."""
    monkeypatch.setattr(revoking, "INTERVAL", 0.005)
    monkeypatch.setattr(revoking, "LOOK", 0.005)


@asynccontextmanager
async def working(office: Office) -> AsyncIterator[None]:
    """The daemon's task that works on what is parked."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(office.revoking.run)
        yield
        tasks.cancel_scope.cancel()


def asked(office: Office) -> list[str]:
    """The refresh tokens whose revocation was asked for."""
    return [token.reveal() if token else "" for _, token, _ in office.revocations.asked]


async def test_a_revoked_grant_holds_no_token(vault: Vault, lines: Lines) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    office = office_of(vault)
    done = await office.revoking.revoke("acme")
    assert office.revocations.asked == [("crm", Secret("rt-1"), Secret("at-1"))]
    assert done.grant == await get(vault)
    assert (done.grant.state, done.grant.reason) == (
        GrantState.REAUTHORIZATION_REQUIRED,
        "revoked_here",
    )
    assert (done.parked, done.is_out, done.is_unresolved) == ((), False, False)
    assert await access_token(vault) is None
    assert lines.events() == ["grant.revoked", "revocation.done"]
    assert office.published == ["acme"]


@pytest.mark.parametrize("result", UNREADY)
async def test_the_decision_stands_whatever_the_server_does(
    vault: Vault, lines: Lines, result: RevocationResult
) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    office = office_of(vault, result)
    done = await office.revoking.revoke("acme")
    assert done.result is result
    assert [parked.attempts for parked in done.parked] == [1]
    assert await access_token(vault) is None
    [line] = lines.of(Event.REVOCATION_PARKED)
    assert (line["reason"], line["ends_at"]) == (result.value, NOW + LONGEST)
    office.revocations.result = RevocationResult.REVOKED
    again = await office.revoking.revoke("acme")
    assert again.parked == ()
    assert asked(office) == ["rt-1", "rt-1"]
    assert len(lines.of(Event.GRANT_REVOKED)) == 1
    assert (await office.revoking.revoke("acme")).parked == ()
    assert asked(office) == ["rt-1", "rt-1"]


@pytest.mark.parametrize(
    ("client", "why"),
    [
        (CRM, "was not revoked .unsupported.: nothing has changed; if the provider"),
        (
            make_client(
                revocation=Revocation(endpoint="https://x", parameter="at", token="access_token")
            ),
            "was not revoked .no_token.: nothing has changed",
        ),
    ],
    ids=["no endpoint", "no token of its kind"],
)
async def test_what_cannot_be_revoked_is_left_alone(vault: Vault, client: Client, why: str) -> None:
    await sow(vault, make_seed())
    before = await get(vault)
    office = open_office(vault, clients={"crm": client})
    with pytest.raises(AuthorizationFailed, match=why):
        await office.revoking.revoke("acme")
    assert await get(vault) == before
    assert (office.published, office.revocations.asked) == ([], [])


async def test_a_grant_of_no_client_is_left_alone(vault: Vault) -> None:
    await sow(vault, static_seed())
    office = office_of(vault)
    with pytest.raises(AuthorizationFailed, match="delete its token at the provider"):
        await office.revoking.revoke("pat")
    with pytest.raises(UnknownGrant):
        await office.revoking.revoke("nobody")


async def test_nothing_is_asked_before_it_is_durable(vault: Vault) -> None:
    await sow(vault, make_seed())
    office = office_of(vault)
    set_writable(vault, writable=False)
    with pytest.raises(VaultUnavailable):
        await office.revoking.revoke("acme")
    set_writable(vault, writable=True)
    assert (office.published, office.revocations.asked) == ([], [])
    assert (await get(vault)).due_at is not None


async def test_an_exchange_that_is_out_is_waited_for(vault: Vault, lines: Lines) -> None:
    await sow(vault, make_seed())
    office = office_of(vault)
    answer_it = anyio.Event()

    async def script(_: Call) -> Outcome:
        await answer_it.wait()
        return answered("at-1", "rt-1")

    parts = assemble(vault, Endpoint(script))
    claimed = await claim(parts)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(parts.refresh.run, claimed, CRM)
        await eventually(lambda: parts.endpoint.in_flight, "the request is out")

        async def release() -> None:
            await eventually(lambda: asked(office) == ["rt-0"], "the stored one is revoked")
            answer_it.set()

        tasks.start_soon(release)
        done = await office.revoking.revoke("acme")
    assert asked(office) == ["rt-0", "rt-1"]
    assert (done.parked, done.is_out) == ((), False)
    assert await orphans(vault) == []
    assert lines.of(Event.ANSWER_ORPHANED) == []
    [late] = lines.of(Event.REVOCATION_PARKED)
    assert (late["grant"], late["sequence"]) == ("acme", claimed.intent.sequence)


async def test_nobody_waits_longer_than_an_exchange_may_take(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revoking, "DEADLINE", 0.05)
    hasty = make_client(revocation=REVOCABLE.endpoints.revocation, response_timeout=0.05)
    await sow(vault, make_seed())
    claimed = await claim_one(vault)
    office = open_office(vault, clients={"crm": hasty})
    with anyio.fail_after(PATIENCE):
        done = await office.revoking.revoke("acme")
    assert (done.parked, done.is_out) == ((), True)
    await finish(vault, claimed, answered("at-1", "rt-1"))
    async with working(office):
        await eventually(lambda: asked(office) == ["rt-0", "rt-1"], "the daemon goes on")


async def test_a_server_that_hangs_holds_no_command(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revoking, "DEADLINE", 0.05)
    hasty = make_client(revocation=REVOCABLE.endpoints.revocation, response_timeout=0.05)
    await sow(vault, make_seed())
    office = open_office(vault, clients={"crm": hasty})
    office.revocations.hangs.add("crm")
    with anyio.fail_after(PATIENCE):
        done = await office.revoking.revoke("acme")
    assert [parked.attempts for parked in done.parked] == [1]
    assert done.result is None


async def test_an_earlier_exchange_without_an_answer_is_told(vault: Vault) -> None:
    await sow(vault, make_seed())
    await finish(vault, await claim_one(vault), UNKNOWN)
    assert (await office_of(vault).revoking.revoke("acme")).is_unresolved


async def test_a_killed_process_leaves_the_rest_to_the_next(tmp_path: Path, lines: Lines) -> None:
    """Killed between the transaction and the request."""
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed())
        assert await vault.revocations.end("acme", lambda *_: True) is not None
    async with opened(tmp_path) as vault:
        office = office_of(vault)
        async with working(office):
            await eventually(lambda: lines.of(Event.REVOCATION_DONE), "it is revoked")
        assert asked(office) == ["rt-0"]
        assert await office.revoking.parked() == []


async def test_an_answer_read_at_last_is_revoked(tmp_path: Path, lines: Lines) -> None:
    """An answer that a bug kept unread, of an authorization that was revoked meanwhile."""
    body = b'{"access_token":"at-1","refresh_token":"rt-1","expires_in":3600}'
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed())
        unread = AnswerUnread(status=200, body=body, bug=ValueError())
        await finish(vault, await claim_one(vault), unread)
        await office_of(vault).revoking.revoke("acme")
    async with opened(tmp_path) as vault:
        await recover(vault, CLIENTS, vault.clock)
        office = office_of(vault)
        async with working(office):
            await eventually(lambda: asked(office) == ["rt-1"], "what it held is revoked")
        assert await orphans(vault) == []


async def test_it_is_tried_ever_more_rarely(vault: Vault) -> None:
    await sow(vault, make_seed())
    office = office_of(vault, RevocationResult.UNKNOWN)
    await office.revoking.revoke("acme")
    waits = []
    for _ in range(12):
        [parked] = await office.revoking.parked()
        waits.append(parked.due_at - office.clock.now())
        office.clock.move(waits[-1])
        await office.revoking._try(parked)
    assert waits[:4] == [60.0, 120.0, 240.0, 480.0]
    assert waits[-1] == 6 * 3_600.0


async def test_one_request_of_a_client_at_a_time_and_none_waits_for_another(
    vault: Vault, lines: Lines
) -> None:
    seeds = [make_seed(f"crm-{n}", f"rt-{n}") for n in range(3)]
    await sow(vault, *seeds, make_seed("erp-0", "rt-erp", client="erp"))
    for grant in await vault.grants():
        await vault.revocations.end(grant.name, lambda *_: True)
    office = office_of(vault)
    office.revocations.hangs.add("crm")
    async with working(office):
        await eventually(lambda: lines.of(Event.REVOCATION_DONE), "the other client's")
        assert [client for client, *_ in office.revocations.asked].count("crm") == 1
        office.revocations.hangs.clear()
        office.revocations.released.set()
        await eventually(lambda: len(lines.of(Event.REVOCATION_DONE)) == 4, "all of them")
    assert office.revocations.most_at_once == {"crm": 1, "erp": 1}


async def test_a_client_that_has_gone_is_told_once_and_waited_for(
    vault: Vault, lines: Lines
) -> None:
    await sow(vault, make_seed(), make_seed("other", "rt-other"))
    for name in ("acme", "other"):
        await vault.revocations.end(name, lambda *_: True)
    office = office_of(vault)
    client = office.clients.pop("crm")
    async with working(office):
        await eventually(lambda: lines.of(Event.REVOCATION_STRANDED), "it is told")
        await anyio.sleep(0.1)
        [line] = lines.of(Event.REVOCATION_STRANDED)
        assert (line["client"], office.revocations.asked) == ("crm", [])
        office.clients["crm"] = client
        await eventually(lambda: len(lines.of(Event.REVOCATION_DONE)) == 2, "it is back")


async def test_what_comes_to_its_end_is_told_and_dropped(vault: Vault, lines: Lines) -> None:
    await sow(vault, make_seed())
    office = office_of(vault, RevocationResult.REFUSED)
    await office.revoking.revoke("acme")
    office.clock.move(LONGEST)
    async with working(office):
        await eventually(lambda: lines.of(Event.REVOCATION_DROPPED), "it is given up")
    [line] = lines.of(Event.REVOCATION_DROPPED)
    assert (line["grant"], line["reason"], line["attempts"]) == ("acme", "its time is over", 1)
    assert await office.revoking.parked() == []


async def test_the_tokens_of_a_new_login_are_never_revoked(vault: Vault, lines: Lines) -> None:
    """A server that does not rotate gives the same refresh token at the next login."""
    await sow(vault, make_seed())
    office = open_office(vault, answered("at-login", "rt-0"), clients=CLIENTS)
    office.revocations.result = RevocationResult.NOT_SENT
    await office.revoking.revoke("acme")
    login = await office.logins.begin("acme")
    await office.logins.finish(login.id, "the-code")
    office.revocations.asked.clear()
    office.clock.move(3_600)
    async with working(office):
        await eventually(lambda: lines.of(Event.REVOCATION_DROPPED), "it is given up")
    assert office.revocations.asked == []
    [line] = lines.of(Event.REVOCATION_DROPPED)
    assert line["reason"] == "grant acme holds the same refresh token now"
    assert (await get(vault)).state is GrantState.FRESH


async def test_a_late_access_token_alone_is_revoked(vault: Vault) -> None:
    await sow(vault, make_seed())
    claimed = await claim_one(vault)
    office = open_office(vault, clients=CLIENTS)
    assert await vault.revocations.end("acme", lambda *_: True) is not None
    await finish(vault, claimed, answered("at-1"))
    async with working(office):
        await eventually(lambda: len(office.revocations.asked) == 2, "both are asked for")
    assert office.revocations.asked[1] == ("crm", None, Secret("at-1"))
    assert office.revocations.kinds == ["refresh_token", "access_token"]


@dataclass
class Server:
    """A server that rotates strictly, and revokes as RFC 7009 says."""

    families: Families = field(default_factory=Families)
    answer: Refreshed | None = None

    def __post_init__(self) -> None:
        self.family, self.first = self.families.open(
            client_id="crm", subject="owner", scope=(), policy=TokenPolicy(), now=NOW
        )

    def revoke(self, refresh_token: str) -> None:
        """Process a request to revoke REFRESH_TOKEN; it is answered with 200 whatever it is."""
        self.families.revoke_token(refresh_token, client_id="crm", now=NOW)

    def refresh(self) -> None:
        """Process the request of the exchange; its answer is under way from now on."""
        assert self.first.refresh_token is not None
        pair = self.families.refresh(self.first.refresh_token, client_id="crm", now=NOW)
        self.answer = answered(pair.access_token, pair.refresh_token)


def orders() -> Iterator[tuple[str, ...]]:
    """Every order of an exchange's three steps and a revocation's two."""
    for places in combinations(range(5), 2):
        exchange, revocation = iter(["claim", "serve", "commit"]), iter(["end", "ask"])
        yield tuple(next(revocation if place in places else exchange) for place in range(5))


@pytest.mark.parametrize("order", list(orders()), ids="-".join)
async def test_no_successor_lives_on_in_any_order(vault: Vault, order: tuple[str, ...]) -> None:
    server = Server()
    await sow(vault, make_seed(refresh_token=server.first.refresh_token))
    office = open_office(vault, clients=CLIENTS)
    office.revocations.server = server.revoke
    claims = []
    for step in order:
        match step:
            case "claim":
                claims += await vault.claim(rooms(crm=1), 1)
            case "serve" if claims and server.family.revoked_at is None:
                server.refresh()
            case "commit" if claims and server.answer is not None:
                await finish(vault, claims[0], server.answer)
            case "end":
                assert await vault.revocations.end("acme", lambda *_: True) is not None
            case "ask":
                for parked in await office.revoking.parked():
                    await office.revoking._try(parked)
            case _:
                pass  # the server had refused it, or there was nothing to claim
    for parked in await office.revoking.parked():
        await office.revoking._try(parked)
    assert server.family.revoked_at is not None
    assert await office.revoking.parked() == []
    assert await orphans(vault) == []
