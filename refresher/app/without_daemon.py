"""A command without a daemon: it opens the vault, does the work itself, and publishes it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from refresher.app.operations import JSON, Operation, Operations, view
from refresher.app.parts import Core, Parts, opened_core, publisher_of
from refresher.clock import Clock, SystemClock
from refresher.domain.grants import Grant
from refresher.engine.recovery import recover
from refresher.errors import PublicationUnavailable
from refresher.logs import Event, emit
from refresher.settings.model import Settings
from refresher.vault.opening import open_vault
from refresher.vault.vault import Vault


@asynccontextmanager
async def alone(
    settings: Settings, *, clock: Clock | None = None
) -> AsyncIterator[dict[str, Operation]]:
    """The operations on a vault no daemon has open, for one command.

    What the command changes reaches Redis with it if Redis answers, else with the next
    daemon; a refresh is carried out at once.

    Raises:
        VaultInUse: a daemon, or another command, has the vault.
    """
    clock = clock or SystemClock()
    changed: set[str] = set()
    vault = await open_vault(settings.vault.path, settings.vault.key_file)
    try:
        async with opened_core(
            settings,
            vault,
            publish=changed.add,
            wake=lambda: None,
            clock=clock,
            parts=Parts(),
        ) as core:
            await recover(vault, core.clients, clock)
            await core.administration.apply_settings(settings.seeds)
            operations = Operations(core.administration, {}).by_name()

            async def refresh(parameters: Mapping[str, JSON]) -> JSON:
                accepted = await core.administration.refresh(parameters["name"])
                if accepted is not None:
                    await _refresh_one(core, accepted)
                grant = await vault.find(parameters["name"])
                assert grant is not None
                renewed = accepted is not None and grant.version > accepted.version
                return {
                    "accepted": accepted is not None,
                    "refreshed": renewed,
                    "grant": view(grant),
                }

            yield operations | {"refresh": refresh}
            await _publish_once(settings, vault, changed, clock)
    finally:
        vault.close()


async def _refresh_one(core: Core, grant: Grant) -> None:
    client = core.clients.get(grant.client or "")
    if client is None:
        return
    for claim in await core.refresh.claim({client.name: 1}, 1, only=grant.name):
        await core.refresh.run(claim, client)


async def _publish_once(settings: Settings, vault: Vault, names: set[str], clock: Clock) -> None:
    """Publish NAMES if Redis answers; the next daemon publishes everything anyway."""
    if not names:
        return
    publisher = publisher_of(settings, clock, Parts())
    try:
        await publisher.connect()
        await publisher.publish(await vault.read(sorted(names)), now=clock.now())
    except PublicationUnavailable as error:
        emit(Event.REDIS_LOST, reason=str(error))
    finally:
        await publisher.server.aclose()
