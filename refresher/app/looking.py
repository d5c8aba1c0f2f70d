"""Looking without a daemon: the questions alone, on a vault that nobody has open.

Apart from ``without_daemon``, because whoever only looks needs neither HTTP nor Redis, and they
take as long to import as the whole of the rest.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from refresher.app.calls import JSON, Operation
from refresher.app.looks import Looks
from refresher.app.servers import Servers
from refresher.engine.administration import Administration
from refresher.engine.discovering import looking_at
from refresher.engine.recovery import recover
from refresher.settings.model import Settings
from refresher.vault.opening import open_vault


@asynccontextmanager
async def looking(settings: Settings) -> AsyncIterator[dict[str, Operation]]:
    """The questions, for one command.

    What the settings changed is taken into the vault first, as a daemon would; the next one
    publishes it.

    Raises:
        VaultInUse: a daemon, or another command, has the vault.
    """
    vault = await open_vault(settings.vault.path, settings.vault.key_file, url=settings.vault.url)
    try:
        clients = dict(settings.clients)
        discovering = looking_at(vault, clients, vault.clock)
        clients.update(await discovering.recalled(clients))
        await recover(vault, settings.clients, vault.clock)
        administration = Administration(
            vault=vault,
            clients=settings.clients,
            publish=lambda _: None,
            wake=lambda: None,
            clock=vault.clock,
        )
        await administration.apply_settings(settings.seeds)
        looks, servers = Looks(vault, clients), Servers(clients, discovering)
        yield looks.by_name() | servers.by_name() | {"ping": nobody}
    finally:
        vault.close()


async def known_servers(settings: Settings) -> list[JSON]:
    """What the vault, which nobody has open, keeps of the clients' servers; nothing is changed.

    Raises:
        VaultInUse: a daemon, or another command, has the vault.
    """
    vault = await open_vault(settings.vault.path, settings.vault.key_file, url=settings.vault.url)
    try:
        clients = dict(settings.clients)
        discovering = looking_at(vault, clients, vault.clock)
        clients.update(await discovering.recalled(clients))
        answer = await Servers(clients, discovering).by_name()["clients"]({})
        views: list[JSON] = answer["clients"]
        return views
    finally:
        vault.close()


async def nobody(_: Mapping[str, JSON]) -> JSON:
    """No daemon answers."""
    return {}
