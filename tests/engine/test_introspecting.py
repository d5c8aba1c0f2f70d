"""Learning when a token ends: after everything is durable, and harmless if it fails."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from refresher.domain.clients import Client
from refresher.domain.secret import Secret
from refresher.engine.introspecting import Introspecting
from refresher.logs import Event
from refresher.vault.vault import Vault
from tests.engine.world import Lines
from tests.vault.world import (
    DRAW,
    NOW,
    answered,
    at,
    get,
    make_client,
    make_seed,
    refresh,
    set_writable,
    sow,
)

ASKED = make_client(introspection="https://crm.example/introspect")


@dataclass
class Server:
    """Tells what a test wants of each token."""

    told: float | str | Exception
    asked: list[str] = field(default_factory=list)

    async def __call__(
        self, client: Client, access_token: Secret, *, now: float, deadline: float
    ) -> float | str:
        assert client.endpoints.introspection is not None
        assert 0 < deadline < now
        self.asked.append(access_token.reveal())
        if isinstance(self.told, Exception):
            raise self.told
        return self.told


def asking(vault: Vault, server: Server) -> tuple[Introspecting, list[str]]:
    news: list[str] = []
    made = Introspecting(
        vault=vault,
        introspect=server,
        publish=news.append,
        wake=lambda: news.append("woken"),
        clock=vault.clock,
    )
    return made, news


async def test_a_token_that_told_no_end_gets_the_one_of_its_server(vault: Vault) -> None:
    await sow(vault, make_seed())
    answer = answered("at-1", "rt-1", expires_in=None)
    grant = await refresh(vault, answer)
    introspecting, news = asking(vault, Server(NOW + 1800))
    await introspecting.ask(ASKED, grant, answer.answer)
    after = await get(vault)
    assert (after.expires_at, after.due_at) == (NOW + 1800, NOW + (1 - 0.2 - 0.1 * DRAW) * 1800)
    assert (after.version, after.state) == (grant.version, grant.state)
    assert after.revision > grant.revision
    assert news == ["acme", "woken"]


@pytest.mark.parametrize(
    ("client", "parts"),
    [(make_client(), {"expires_in": None}), (ASKED, {}), (ASKED, {"ends_in": 5.0})],
    ids=["nobody to ask", "told as a duration", "told as an instant"],
)
async def test_nobody_is_asked_in_vain(
    vault: Vault, client: Client, parts: dict[str, float | None]
) -> None:
    await sow(vault, make_seed())
    answer = answered("at-1", "rt-1", **parts)
    grant = await refresh(vault, answer)
    server = Server(NOW + 1800)
    await asking(vault, server)[0].ask(client, grant, answer.answer)
    assert server.asked == []


async def test_the_end_of_an_older_token_counts_no_more(vault: Vault) -> None:
    await sow(vault, make_seed())
    answer = answered("at-1", "rt-1", expires_in=None)
    grant = await refresh(vault, answer)
    await at(vault, NOW + 1).request_refresh("acme")
    newer = await refresh(vault, answered("at-2", "rt-2"), NOW + 1)
    introspecting, news = asking(vault, Server(NOW + 60))
    await introspecting.ask(ASKED, grant, answer.answer)
    assert (await get(vault), news) == (newer, [])


def outcomes() -> Sequence[tuple[float | str | Exception, str | None]]:
    return [("http_401", "http_401"), (RuntimeError("canary"), None), (NOW + 60, "vault_refused")]


@pytest.mark.parametrize(("told", "said"), outcomes())
async def test_what_goes_wrong_is_harmless_and_said_once(
    vault: Vault, lines: Lines, told: float | str | Exception, said: str | None
) -> None:
    await sow(vault, make_seed())
    answer = answered("at-1", "rt-1", expires_in=None)
    grant = await refresh(vault, answer)
    introspecting, _ = asking(vault, Server(told))
    set_writable(vault, writable=False)
    for _ in range(2):
        await introspecting.ask(ASKED, grant, answer.answer)
    set_writable(vault, writable=True)
    assert await get(vault) == grant
    found = [line["error"] for line in lines.of(Event.INTROSPECTION_FAILED)]
    assert found == ([] if said is None else [said])
    assert len(lines.of(Event.TASK_RESTARTED)) == (2 if said is None else 0)
    assert "canary" not in lines.output.getvalue()
