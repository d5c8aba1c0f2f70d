"""What a reload of the settings changed, and what of it has to wait for a restart."""

from collections.abc import Mapping

from refresher.domain.clients import Client
from refresher.settings.model import Settings
from refresher.vault.changes import What


def changed_clients(old: Mapping[str, Client], new: Mapping[str, Client]) -> list[tuple[What, str]]:
    """What a reload made of each client that it did not leave as it was."""
    became = [(What.CLIENT_REMOVED, name) for name in old if name not in new]
    for name, client in new.items():
        if old.get(name) != client:
            became.append((What.CLIENT_CHANGED if name in old else What.CLIENT_ADDED, name))
    return became


def needing_restart(old: Settings, new: Settings) -> list[str]:
    """What changed but takes effect only at a restart; the address of Redis does at once."""
    sections = ("vault", "control", "http", "log", "daemon")
    changed = [
        f"[{section}]" for section in sections if getattr(old, section) != getattr(new, section)
    ]
    if old.redis.prefix != new.redis.prefix:
        changed.append("redis.prefix")
    return [f"{name} changed: restart to use it" for name in changed]
