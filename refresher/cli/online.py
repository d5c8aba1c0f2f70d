"""``refresher check --online``: from name and TLS over clocks and endpoints to vault and Redis."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from refresher.cli.status.asking import is_unknown
from refresher.cli.status.wording import total
from refresher.clock import Clock
from refresher.domain.clients import Client
from refresher.domain.findings import Finding, Level
from refresher.errors import ControlError, ControlUnavailable, RefresherError
from refresher.oauth import probing as servers
from refresher.oauth.token_endpoint import TokenEndpoint
from refresher.ops.control_client import ControlClient
from refresher.publication.keys import Keys
from refresher.publication.server import probing as redis
from refresher.publication.server.connection import Address
from refresher.publication.server.opening import open_server
from refresher.settings.model import Settings
from refresher.vault import probing as vault


async def look(settings: Settings, only: str | None, clock: Clock) -> AsyncIterator[Finding]:
    """What is found of every client, of the client ONLY, or of the grant ONLY and its client.

    Nothing is spent: no refresh token, no code and no secret is sent to a server.

    Raises:
        RefresherError: ONLY names nothing.
    """
    control = ControlClient(settings.control.socket)
    clients, findings = await _chosen(settings, control, only)
    for finding in findings:
        yield finding
    async with TokenEndpoint() as endpoint:
        for client in clients:
            for finding in await servers.probe(endpoint, client, clock):
                yield finding
    yield await _vault(control)
    if settings.vault.url is not None:
        folder = settings.vault.path.parent
        for finding in await vault.probe(settings.vault.url, settings.vault.location, folder):
            yield finding
    address = Address(
        url=settings.redis.url.reveal(),
        username=settings.redis.username,
        password=settings.redis.password,
    )
    server = open_server(address)
    try:
        async for finding in redis.probe(server, Keys(settings.redis.prefix), clock):
            yield finding
    finally:
        await server.aclose()


async def _chosen(
    settings: Settings, control: ControlClient, only: str | None
) -> tuple[Sequence[Client], list[Finding]]:
    """The clients to look at, and what is to be said of the grant that was named."""
    if only is None:
        return list(settings.clients.values()), []
    if only in settings.clients:
        return [settings.clients[only]], []
    seeded = next((seed.client for seed in settings.seeds if seed.name == only), None)
    findings: list[Finding] = []
    try:
        grant: Any = await control.call("grant", name=only)
    except (ControlError, ControlUnavailable) as error:
        if seeded is None:
            where = "" if is_unknown(error) else f" in the settings, and nobody else knows: {error}"
            raise RefresherError(f"there is no client or grant named {only}{where}") from error
        name = seeded
    else:
        name = grant["client"]
        reason = f" ({grant['reason']})" if grant["reason"] else ""
        level = Level.DOUBT if grant["repair"] else Level.GOOD
        findings.append(
            Finding(
                subject=f"grant {only}",
                text=f"is {grant['state']}{reason}",
                level=level,
                mend=grant["repair"],
            )
        )
    known = settings.clients.get(name or "")
    return [] if known is None else [known], findings


async def _vault(control: ControlClient) -> Finding:
    """Whether a daemon answers, and can read its vault."""
    try:
        overview: Any = await control.call("overview", limit=1)
    except ControlUnavailable as error:
        return Finding(
            subject="vault",
            text=f"{error}, so nobody has it open",
            level=Level.DOUBT,
            mend="refresher run",
        )
    except ControlError as error:
        return Finding(
            subject="vault",
            text=f"the daemon cannot tell: {error}",
            level=Level.PROBLEM,
            mend="look at vault.unavailable and files.vanished in its log",
        )
    return Finding(subject="vault", text=f"a daemon reads it: {total(overview['totals'])}")
