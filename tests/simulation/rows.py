"""Grants as they are committed, read past the vault's own code."""

from typing import NamedTuple

from refresher.domain.grants import GrantState
from refresher.domain.pauses import ORDERED

ROWS = """
    SELECT name, client, uid, state, reason, version, revision, attempt_sequence,
        adopted_sequence, authorization_serial, due_at, expires_at, lease_holder, fault,
        refused_at, refusals, intent_attempts, refresh_token_fingerprint
    FROM grants
"""
KEPT = "SELECT id, grant_name, kind, sequence FROM kept_answers WHERE id > ? ORDER BY id"
PARKED = """
    SELECT id, client, grant_name, grant_uid, authorization_serial, due_at, sealed
    FROM revocations
"""


class Row(NamedTuple):
    """One grant."""

    name: str
    client: str | None
    uid: str
    state: str
    reason: str | None
    version: int
    revision: int
    attempt_sequence: int
    adopted_sequence: int
    authorization_serial: int
    due_at: float | None
    expires_at: float | None
    lease_holder: str | None
    fault: str | None
    refused_at: float | None
    refusals: int
    intent_attempts: int | None
    fingerprint: bytes | None

    @property
    def word(self) -> str:
        """Its reason without the server's code."""
        return str(self.reason).partition(":")[0]

    @property
    def is_paused_by_order(self) -> bool:
        """Whether an operator has ordered that nothing be sent for it."""
        return self.state == GrantState.PAUSED and self.word in ORDERED

    @property
    def is_decided_on(self) -> bool:
        """Whether it waits for an operator to decide."""
        return self.state == GrantState.PAUSED and self.word not in ORDERED

    @property
    def authorization(self) -> tuple[str, int]:
        """What tells its authorizations apart, also those of an earlier grant of its name."""
        return self.uid, self.authorization_serial
