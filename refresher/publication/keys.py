"""Every name refresher uses in Redis, with the rule by which it ends (contract version 1)."""

from dataclasses import dataclass
from functools import cached_property

DAEMON_LIFE = 15
"""Seconds a daemon's key outlives its last heartbeat."""

EVENTS_LENGTH = 10_000
"""Entries kept in the stream of events, roughly: Redis trims whole nodes."""

REJECTED_LIFE = 300
"""Seconds for which consumers ask a rejected version to be kept."""


@dataclass(frozen=True)
class Keys:
    """The names under one prefix.

    Each key is touched alone by every script, so a cluster needs no hash tags.
    """

    prefix: str = "refresher:"

    def token(self, name: str) -> str:
        """Hash of the current access token and, same name, the channel that announces it.

        Ends with the token; has no TTL only if the token has no end.
        """
        return f"{self.tokens}{name}"

    def status(self, name: str) -> str:
        """Hash that says how the grant is; no TTL, removed when the vault forgets the grant."""
        return f"{self.statuses}{name}"

    def daemon(self, instance: str) -> str:
        """Hash that says a daemon lives; ends ``DAEMON_LIFE`` after its last heartbeat."""
        return f"{self.prefix}daemon:{instance}"

    @cached_property
    def tokens(self) -> str:
        """What the keys of all tokens begin with."""
        return f"{self.prefix}token:"

    @cached_property
    def statuses(self) -> str:
        """What the keys of all statuses begin with."""
        return f"{self.prefix}status:"

    @property
    def events(self) -> str:
        """Stream of state changes and publications; no TTL, capped at ``EVENTS_LENGTH``."""
        return f"{self.prefix}events"

    @property
    def requests(self) -> str:
        """Stream of trusted consumers' requests; no TTL, deleted with its last entry."""
        return f"{self.prefix}requests"

    def rejected(self, name: str) -> str:
        """String that a consumer sets: the version that was rejected.

        Ends ``REJECTED_LIFE`` after it was set; deleted once the vault took it.
        """
        return f"{self.rejections}{name}"

    @property
    def rejections(self) -> str:
        """What the keys of all rejected versions begin with."""
        return f"{self.prefix}rejected:"

    def rejected_name_of(self, key: str) -> str | None:
        """The grant a rejected version belongs to; None for any other key."""
        if not key.startswith(self.rejections):
            return None
        return key.removeprefix(self.rejections)

    def name_of(self, key: str) -> str | None:
        """The grant a token or status key belongs to; None for any other key."""
        for beginning in (self.tokens, self.statuses):
            if key.startswith(beginning):
                return key.removeprefix(beginning)
        return None
