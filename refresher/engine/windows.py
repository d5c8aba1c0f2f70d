"""From how many seconds before its end on a server refreshes a token, for a whole client.

A grant learns it from refusals and keeps it in the vault. What two grants of a client have
learned counts for all of its grants, so that not each of them has to be refused first. Only
memory: after a restart two grants tell it again.
"""

from dataclasses import replace

from refresher.domain.clients import Client
from refresher.domain.grants import Grant

ENOUGH = 2
"""Grants that must agree that there is a window at all."""


class Windows:
    """What the grants of each client have learned of late."""

    def __init__(self) -> None:
        self._learned: dict[str, dict[int, float]] = {}

    def note(self, grant: Grant) -> None:
        """Take over what GRANT knows after an exchange: a window, or that there is none."""
        known = self._learned.setdefault(grant.client or "", {})
        known.pop(grant.id, None)
        if grant.refresh_window is not None:
            known[grant.id] = grant.refresh_window
            while len(known) > ENOUGH:
                del known[next(iter(known))]

    def of(self, client: Client) -> Client:
        """CLIENT, with the widest window that enough of its grants have learned."""
        known = self._learned.get(client.name, {})
        if client.quirks.refresh_window is not None or len(known) < ENOUGH:
            return client
        quirks = replace(client.quirks, refresh_window=max(known.values()))
        return replace(client, quirks=quirks)
