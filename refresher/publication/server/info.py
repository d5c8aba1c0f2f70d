"""What one server says of itself."""

from refresher.publication.server.connection import Server
from refresher.publication.server.masters import Masters


async def read_info(server: Server, *sections: str) -> dict[str, str]:
    """The fields of INFO; empty where the ACL refuses it.

    Raises:
        PublicationUnavailable: when Redis cannot be asked.
    """
    info: dict[str, str] = {}
    for reply in await server.pipeline([("INFO", section) for section in sections]):
        if isinstance(reply, dict):
            info |= {str(field): str(value) for field, value in reply.items()}
    return info


async def identity_of(server: Masters) -> list[tuple[str, str]]:
    """What changes when a master is replaced or restarted; empty words where INFO is refused.

    Raises:
        PublicationUnavailable: when Redis cannot be asked.
    """
    infos = [await read_info(master, "server", "replication") for master in server.masters]
    return [(info.get("run_id", ""), info.get("master_replid", "")) for info in infos]
