"""From one URL to whatever takes the writes there."""

from refresher.domain.redis_urls import Layout
from refresher.publication.server.cluster import Cluster
from refresher.publication.server.connection import Address, Reread, Server, check_address
from refresher.publication.server.masters import Masters
from refresher.publication.server.sentinel import Sentinel


def open_server(address: Address, *, reread: Reread | None = None) -> Masters:
    """The servers at ADDRESS; nothing is sent before ``find`` or the first command.

    Raises:
        ValueError: for a URL that cannot be used; says why and never quotes it.
    """
    check_address(address)
    many = address.many
    if many is None:
        return Server(address, reread=reread)
    kind = Cluster if many.layout is Layout.CLUSTER else Sentinel
    return kind(address, reread=reread)
