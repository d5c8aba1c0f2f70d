"""A command without a daemon: it opens the vault, does the work itself, and publishes it."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from refresher.app import calls
from refresher.app.calls import JSON, Operation, Taking
from refresher.app.device_operations import DeviceOperations
from refresher.app.looks import Looks
from refresher.app.parts import Core, Parts, opened_core, publisher_of
from refresher.app.secret_watch import SecretWatch
from refresher.app.servers import Servers
from refresher.app.views import view
from refresher.clock import Clock
from refresher.domain.claiming import Room
from refresher.domain.grants import Grant
from refresher.engine.recovery import recover
from refresher.errors import PublicationUnavailable
from refresher.logs import Event, emit
from refresher.publication.publisher import BATCH
from refresher.settings.model import Settings
from refresher.settings.secret_places import Needed
from refresher.vault.opening import open_vault
from refresher.vault.vault import Vault


@asynccontextmanager
async def alone(
    settings: Settings, *, clock: Clock | None = None
) -> AsyncIterator[dict[str, Operation]]:
    """The operations on a vault no daemon has open, for one command.

    What the command changes reaches Redis with it if Redis answers and its secrets were read,
    else with the next daemon; a refresh is carried out at once.

    Raises:
        VaultInUse: a daemon, or another command, has the vault.
    """
    vault = await open_vault(
        settings.vault.path, settings.vault.key_file, url=settings.vault.url, clock=clock
    )
    clock = vault.clock
    secrets = SecretWatch(settings, clock)
    changed: set[str] = set()
    behind: list[int] = []
    try:
        async with opened_core(
            secrets,
            vault,
            publish=changed.add,
            publish_behind=behind.append,
            wake=lambda: None,
            clock=clock,
            parts=Parts(),
        ) as core:
            await recover(vault, core.clients, clock)
            await core.administration.apply_settings(settings.seeds)
            operations = core.operations({})

            async def refresh(call: calls.Refresh) -> JSON:
                accepted = await core.administration.refresh(call.name)
                if accepted is not None:
                    await _refresh_one(core, accepted)
                grant = await core.administration.grant(call.name)
                if accepted is None:
                    return {"accepted": False, "stands": view(grant)}
                return {
                    "accepted": True,
                    "refreshed": grant.version > accepted.version,
                    "grant": view(grant),
                }

            async def refresh_lost(call: calls.RefreshLost) -> JSON:
                answer = await operations.refresh_lost(call)
                done = {}
                for name in answer["asked"]:
                    lost = await vault.find(name)
                    assert lost is not None
                    await _refresh_one(core, lost)
                    after = await vault.find(name)
                    assert after is not None
                    done[name] = view(after)
                return {**answer, "grants": done}

            async def rotate_key(call: calls.RotateKey) -> JSON:
                answer = await operations.rotate_key(call)
                await vault.resealing.reseal()
                return answer

            looks = Looks(vault, core.clients)
            servers = Servers(core.clients, core.discovering, core.registering)
            yield (
                operations.by_name()
                | DeviceOperations(core.device_logins, core.administration).by_name()
                | looks.by_name()
                | servers.by_name()
                | {
                    "refresh": Taking(calls.Refresh, refresh),
                    "refresh_lost": Taking(calls.RefreshLost, refresh_lost),
                    "rotate_key": Taking(calls.RotateKey, rotate_key),
                }
            )
            if settings.secrets is not Needed.NONE:
                prefix = settings.redis.prefix
                await _publish_once(secrets, prefix, vault, (changed, behind), clock)
    finally:
        vault.close()


async def _refresh_one(core: Core, grant: Grant) -> None:
    client = core.clients.get(grant.client or "")
    if client is None:
        return
    if not client.endpoints.token:
        client = await core.discovering.ready(client)
    room = Room(
        client=client.name,
        gate=client.name,
        places=1,
        failing=1,
        doubted=1,
        response_timeout=client.quirks.response_timeout,
    )
    for claim in await core.refresh.claim([room], 1, only=grant.name):
        await core.refresh.run(claim, client)


async def _publish_once(
    secrets: SecretWatch,
    prefix: str,
    vault: Vault,
    changed: tuple[Collection[str], Collection[int]],
    clock: Clock,
) -> None:
    """Publish what was CHANGED if Redis answers: by name, and behind the lowest of some ids.

    The next daemon publishes everything anyway.
    """
    names, behind = changed
    if not names and not behind:
        return
    publisher = publisher_of(secrets, prefix, clock, Parts())
    try:
        await publisher.server.find()
        await publisher.connect()
        ordered = sorted(names)
        for start in range(0, len(ordered), BATCH):
            some = ordered[start : start + BATCH]
            await publisher.publish(await vault.read(some), now=clock.now())
        after = min(behind, default=None)
        while after is not None:
            rows = await vault.walk(after, BATCH)
            await publisher.publish(rows, now=clock.now())
            after = rows[-1].grant.id if rows else None
    except PublicationUnavailable as error:
        emit(Event.REDIS_LOST, reason=str(error))
    finally:
        await publisher.server.aclose()
