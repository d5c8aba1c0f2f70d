"""Notifications: what a person is told of, and where. Pure."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from refresher.domain.secret import Secret

SECRET_PREFIX = "whsec_"
SHORTEST_KEY, LONGEST_KEY = 24, 64
"""Bytes of a key that signs, as Standard Webhooks has them."""


class Kind(StrEnum):
    """What is told: the ``type`` of a notification."""

    GRANT_LOST = "grant.lost"
    GRANT_RECOVERED = "grant.recovered"
    GRANT_ENDING = "grant.ending"
    INCIDENT_OPENED = "incident.opened"
    INCIDENT_CLOSED = "incident.closed"
    CLIENT_REJECTED = "client.rejected"
    VAULT_REFUSED = "vault.refused"


TEST = "test"
"""The ``type`` of what ``refresher notify`` sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Somebody who is told: a webhook, or a command."""

    setting: str
    """Which of the settings names it."""
    url: Secret | None = field(default=None, repr=False)
    """Many services let whoever knows the URL post to it."""
    key: Secret | None = field(default=None, repr=False)
    """What signs, as the settings write it: ``whsec_`` and base64."""
    command: tuple[str, ...] = field(default=(), repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Of the command."""
    folder: Path = Path("/")
    """Where the command is started."""
    kinds: frozenset[Kind] = frozenset(Kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One message for one target, until that has taken it."""

    id: int = 0
    """0 before it was kept."""
    target: int
    """The place of its target in the settings."""
    made_at: float
    due_at: float
    attempts: int = 0
    body: str
    """JSON, the same at each attempt."""


def signing_key(text: str) -> bytes:
    """The key that TEXT, ``whsec_`` and base64, stands for.

    Raises:
        ValueError: says what is wrong with it, and nothing of it.
    """
    encoded = text.removeprefix(SECRET_PREFIX)
    if encoded == text:
        raise ValueError(
            f"does not begin with {SECRET_PREFIX}: make one with "
            f'`echo "{SECRET_PREFIX}$(openssl rand -base64 32)"`'
        )
    try:
        found = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"has something else than base64 behind {SECRET_PREFIX}") from None
    if not SHORTEST_KEY <= len(found) <= LONGEST_KEY:
        raise ValueError(
            f"has {len(found)} bytes behind {SECRET_PREFIX}: Standard Webhooks wants "
            f"{SHORTEST_KEY} to {LONGEST_KEY}"
        )
    return found
