"""The statements of a commit: what the outcome of an exchange does to its grant.

Each function is one operation of a transaction; ``Vault`` runs them durably.
"""

from dataclasses import dataclass, replace

import sqlalchemy as sa

from refresher.domain.adoption import Transition
from refresher.domain.commit_rule import Verdict, judge, merge, next_version
from refresher.domain.grants import Claim, Grant, GrantState, TokenSet
from refresher.vault import incidents
from refresher.vault.claims import overlaid, row_by_id
from refresher.vault.incidents import Incident
from refresher.vault.kept import keep_orphan, keep_unreadable
from refresher.vault.revocations import park_late
from refresher.vault.rows import Transaction, Values, grant_of, status_values
from refresher.vault.schema import grants
from refresher.vault.spent import remember_spent


@dataclass(frozen=True, slots=True)
class Committed:
    """What became of an outcome, and the grant as it is stored now (None: it is gone)."""

    verdict: Verdict
    grant: Grant | None
    incident: Incident | None = None
    """The incident that this outcome has opened."""
    is_parked: bool = False
    """Its tokens are of an authorization that ``revoke`` has ended: they are to be revoked."""


def commit(tx: Transaction, claimed: Claim, outcome: Transition) -> Committed:
    """Apply OUTCOME of the exchange CLAIMED allowed, if the commit rule lets it count.

    Tokens that fail the rule are sealed: to be revoked where ``revoke`` has ended their
    authorization, else as an orphan. What nobody understood is kept whatever the verdict;
    nothing is ever thrown away.
    """
    row = row_by_id(tx, claimed.grant.id)
    stored = grant_of(row) if row is not None else None
    intent = claimed.intent
    verdict = Verdict.SUPERSEDED
    if stored is not None:
        verdict = judge(stored, claimed.grant, intent, outcome.tokens)
    if verdict is Verdict.APPLY:
        assert row is not None
        assert stored is not None
        after = _apply(tx, row, claimed, outcome)
        is_refused = after.refused_at is not None and stored.refused_at is None
        incident = incidents.opened(tx, after.client) if is_refused else None
        return Committed(verdict, after, incident)
    if stored is not None and stored.attempt_sequence == intent.sequence:
        _release(tx, stored.id)
    is_parked = False
    if verdict is Verdict.SUPERSEDED:
        if outcome.tokens is not None:
            is_parked = park_late(tx, claimed.grant, outcome.tokens)
            if not is_parked:
                keep_orphan(tx, claimed.grant, intent.sequence, outcome.tokens)
        if outcome.kept is not None:
            keep_unreadable(tx, claimed.grant, intent, outcome.kept)
    return Committed(verdict, stored, is_parked=is_parked)


def _apply(tx: Transaction, row: sa.RowMapping, claimed: Claim, outcome: Transition) -> Grant:
    stored, intent = grant_of(row), claimed.intent
    after = merge(stored, claimed.grant, outcome.grant, intent)
    after = replace(after, revision=next_version(stored.revision, tx.now))
    values = status_values(after)
    if (tokens := outcome.tokens) is not None:
        values["adopted_sequence"] = intent.sequence
        values |= _token_values(tx, row, stored, tokens, intent.presented)
    elif outcome.restores_predecessor:
        values |= _predecessor_values(row)
    elif after.state is GrantState.REAUTHORIZATION_REQUIRED:
        remember_spent(tx, stored, intent.presented)
    if stored.attempt_sequence == intent.sequence:
        values |= {"lease_holder": None, "lease_taken_at": None}
    tx.connection.execute(sa.update(grants).where(grants.c.id == stored.id).values(**values))
    if outcome.kept is not None:
        keep_unreadable(tx, claimed.grant, intent, outcome.kept)
    return grant_of(overlaid(row, values))


def _token_values(
    tx: Transaction, row: sa.RowMapping, stored: Grant, tokens: TokenSet, presented: bytes
) -> Values:
    """The columns of TOKENS; what was PRESENTED stays sealed beside a successor on probation."""
    values: Values = {"predecessor_sealed": None}
    if tokens.refresh_token is not None:
        if tokens.on_probation and presented == row["refresh_token_fingerprint"]:
            values["predecessor_sealed"] = row["refresh_token_sealed"]
        values |= tx.sealer.refresh_token_values(
            stored, tokens.refresh_token, presented=presented, obtained_at=tx.now
        )
    if tokens.access_token is not None:
        values |= tx.sealer.access_token_values(stored, tokens)
        values["version"] = next_version(row["version"], tx.now)
    return values


def _predecessor_values(row: sa.RowMapping) -> Values:
    """The predecessor in the place of the refresh token that a search had found."""
    return {
        "refresh_token_sealed": row["predecessor_sealed"],
        "refresh_token_fingerprint": row["predecessor_fingerprint"],
        "predecessor_fingerprint": row["refresh_token_fingerprint"],
        "predecessor_sealed": None,
    }


def _release(tx: Transaction, grant_id: int) -> None:
    tx.connection.execute(
        sa.update(grants)
        .where(grants.c.id == grant_id)
        .values(lease_holder=None, lease_taken_at=None)
    )
