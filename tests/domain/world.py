"""What the tests of transitions share: grants, claims, outcomes and their instants."""

from dataclasses import replace
from typing import Any

from refresher.domain.adoption import Attempt, Transition
from refresher.domain.clients import Client
from refresher.domain.grants import Claim, Grant, GrantKind, GrantState, Intent
from refresher.domain.outcomes import (
    ClientRejected,
    GrantRejected,
    Misconfigured,
    NotSent,
    Outcome,
    OutcomeUnknown,
    ProofDemanded,
    Refreshed,
    RequestRejected,
    TokenAnswer,
    Transient,
)
from refresher.domain.quirks import Rotation, RotationProfile
from refresher.domain.renewal import RefreshToken
from refresher.domain.secret import Secret
from refresher.domain.transition import transition
from tests.support import clients

NOW = 1_800_000_000.0
LIFE = 3600.0
STRICT = Rotation(RotationProfile.STRICT)
NONE = Rotation(RotationProfile.NONE)
UNTIL_USED = Rotation(RotationProfile.UNTIL_USED)
GRACE = Rotation(RotationProfile.GRACE, 600.0)

NOT_SENT = NotSent(reason="refused")
THROTTLED = Transient(reason="throttled", status=429)
UNKNOWN = OutcomeUnknown(reason="timeout")
REJECTED = GrantRejected(error="invalid_grant", status=400)
CLIENT_REJECTED = ClientRejected(error="invalid_client", status=401)
MISCONFIGURED = Misconfigured(error="invalid_scope", status=400)
PROOF_DEMANDED = ProofDemanded(error="invalid_grant", status=400)
REQUEST_REJECTED = RequestRejected(error="invalid_request", status=400)


def make_client(rotation: Rotation = STRICT, **parts: Any) -> Client:
    return clients.make_client("crm", rotation=rotation, **parts)


def make_grant(left: float | None = 900.0, **parts: Any) -> Grant:
    """A grant whose hour-long access token lives LEFT more seconds; None: no token yet."""
    if left is not None:
        parts = {
            "state": GrantState.FRESH if left > 0 else GrantState.EXPIRED,
            "version": 7,
            "issued_at": NOW + left - LIFE,
            "expires_at": NOW + left,
        } | parts
    return Grant(
        id=1,
        uid="uid",
        name="acme",
        kind=GrantKind.REFRESHABLE,
        client="crm",
        origin="settings",
        since=NOW - 9999,
        authorization_serial=2,
        attempt_sequence=5,
        refresh_token_fingerprint=b"stored",
        **parts,
    )


def claimed(grant: Grant, *, attempts: int = 1, age: float = 0.0) -> Claim:
    """A claim of GRANT whose first unresolved attempt was AGE seconds ago."""
    intent = Intent(sequence=5, presented=b"stored", first_sent_at=NOW - age, attempts=attempts)
    return Claim(
        grant=replace(grant, intent=intent),
        renewal=RefreshToken(Secret("rt")),
        access_token=None if grant.version == 0 else Secret("at-0"),
    )


def happened(took: float = 0.0, draw: float = 0.5) -> Attempt:
    return Attempt(sent_at=NOW, ended_at=NOW + took, draw=draw)


def answered(access_token: str = "at-1", **parts: Any) -> Refreshed:
    fields: dict[str, Any] = {"refresh_token": Secret("rt-1"), "expires_in": LIFE} | parts
    answer = TokenAnswer(access_token=Secret(access_token), **fields)
    return Refreshed(answer=answer, status=200)


def apply(
    outcome: Outcome,
    grant: Grant | None = None,
    *,
    client: Client | None = None,
    attempts: int = 1,
    age: float = 0.0,
    took: float = 0.0,
) -> Transition:
    """What OUTCOME makes of GRANT."""
    claim = claimed(grant or make_grant(), attempts=attempts, age=age)
    return transition(claim, client or make_client(), outcome, happened(took))
