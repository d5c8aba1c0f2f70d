"""The statements of a commit: what the outcome of an exchange does to its grant.

Each function is one operation of a transaction; ``Vault`` runs them durably.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from refresher.domain.adoption import Transition
from refresher.domain.commit_rule import Verdict, judge, merge, next_version
from refresher.domain.fields import Trait, fields_with
from refresher.domain.grants import Claim, Grant, GrantState, Publication, TokenSet
from refresher.vault import incidents
from refresher.vault.batches import Again
from refresher.vault.changes import What, note
from refresher.vault.claims import overlaid, row_by_id
from refresher.vault.incidents import Incident
from refresher.vault.kept import keep_orphan, keep_unreadable
from refresher.vault.prepared import ForEach
from refresher.vault.refusals import is_of_one_row
from refresher.vault.revocations import park_late
from refresher.vault.rows import (
    Transaction,
    Values,
    grant_of,
    intent_values,
    rejection_values,
    status_values,
)
from refresher.vault.schema import grants
from refresher.vault.spent import remember_spent

STATEMENTS = 256
"""Sets of columns whose statement is kept; outcomes change a dozen of them."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What became of an outcome, and the grant as it is stored now (None: it is gone)."""

    verdict: Verdict
    grant: Grant | None
    incident: Incident | None = None
    """The incident that this outcome has opened."""
    is_parked: bool = False
    """Its tokens are of an authorization that ``revoke`` has ended: they are to be revoked."""
    publication: Publication | None = None
    """What is to be published, where that is known without a look at the row."""


Exchange = tuple[Claim, Transition]
"""What allowed it, and its outcome."""


def is_plain(claimed: Claim, outcome: Transition) -> bool:
    """Whether OUTCOME is what nearly every exchange brings: an access token, nothing doubted."""
    tokens = outcome.tokens
    return (
        tokens is not None
        and tokens.access_token is not None
        and not tokens.on_probation
        and outcome.kept is None
        and claimed.grant.state is not GrantState.REAUTHORIZATION_REQUIRED
        and outcome.grant.served_at != claimed.grant.served_at
    )


_WAS = (
    *("uid", "authorization_serial", "attempt_sequence", "adopted_sequence", "revision"),
    *("refresh_token_fingerprint", "refused_at", "requested_at"),
)


@lru_cache(STATEMENTS)
def _plain(names: tuple[str, ...]) -> ForEach:
    """Write NAMES of a grant, provided that it is what it was when it was claimed.

    Then the commit rule says yes, and nothing has been written that ``merge`` would keep.
    """
    ended = (*intent_values(None), "lease_holder", "lease_taken_at", "predecessor_sealed")

    def change(given: Mapping[str, sa.ColumnElement[Any]]) -> sa.Update:
        was = [grants.c[name].is_not_distinct_from(given[f"was_{name}"]) for name in _WAS]
        found = sa.update(grants).where(grants.c.id == given["number"], *was)
        return found.values({name: given[name] for name in names} | dict.fromkeys(ended, sa.null()))

    types = {name: grants.c[name].type for name in names}
    was = {f"was_{name}": grants.c[name].type for name in _WAS}
    return ForEach(change, {**types, **was, "number": sa.BigInteger()})


_OUTCOME = fields_with(Trait.OUTCOME)


def _changed(before: Grant, after: Grant) -> Values:
    """The columns that an exchange changes, its intent aside, which is over with it.

    What stays as it was is not written: that is what most of the indexes are made of, and
    they cost more than the row.
    """
    was, becomes = vars(before), vars(after)
    values = {name: becomes[name] for name in _OUTCOME if becomes[name] != was[name]}
    if after.rejection != before.rejection:
        values |= rejection_values(after.rejection)
    return values


def commit_plain(work: Sequence[tuple[Transaction, Exchange]]) -> list[Committed]:
    """Apply plain outcomes, a statement for all that change the same columns.

    Raises:
        Again: one of the grants is not what it was any more: the commit rule has to decide.
    """
    alike: dict[tuple[str, ...], list[Values]] = {}
    committed = []
    for tx, (claimed, outcome) in work:
        tokens, grant = outcome.tokens, claimed.grant
        assert tokens is not None
        kept: Values = {
            "version": next_version(grant.version, tx.now),
            "revision": next_version(grant.revision, tx.now),
            "adopted_sequence": claimed.intent.sequence,
        }
        new = _changed(grant, outcome.grant) | tx.sealer.access_token_values(grant, tokens)
        if tokens.refresh_token is not None:
            presented = claimed.intent.presented
            rotated = tx.sealer.refresh_token_values(
                grant, tokens.refresh_token, presented=presented, obtained_at=tx.now
            )
            new["refresh_token_sealed"] = rotated.pop("refresh_token_sealed")
            kept |= rotated
        new |= kept
        was = {f"was_{name}": getattr(grant, name) for name in _WAS}
        alike.setdefault(tuple(new), []).append(new | was | {"number": grant.id})
        after = outcome.grant.but(on_probation=False, **kept)
        scope = new.get("granted_scope", claimed.granted_scope)
        publication = _published(after, tokens, scope)
        committed.append(Committed(Verdict.APPLY, after, publication=publication))
    connection = work[0][0].connection
    try:
        for names, many in alike.items():
            if _plain(names).run(connection, many) != len(many):
                raise Again
    except DBAPIError as error:
        if is_of_one_row(error):
            raise Again from error
        raise
    return committed


def _published(after: Grant, tokens: TokenSet, scope: str) -> Publication:
    """What is to be published of AFTER, whose TOKENS have just been written."""
    return Publication(
        grant=after,
        access_token=tokens.access_token,
        token_type=tokens.token_type,
        scope=scope,
        extras=tokens.extras,
    )


def commit(tx: Transaction, exchange: Exchange) -> Committed:
    """Apply the outcome of an EXCHANGE, if the commit rule lets it count.

    Tokens that fail the rule are sealed: to be revoked where ``revoke`` has ended their
    authorization, else as an orphan. What nobody understood is kept whatever the verdict;
    nothing is ever thrown away.
    """
    claimed, outcome = exchange
    row = row_by_id(tx, claimed.grant.id)
    stored = grant_of(row) if row is not None else None
    intent = claimed.intent
    verdict = Verdict.SUPERSEDED
    if stored is not None:
        verdict = judge(
            stored, claimed.grant, intent, outcome.tokens, gives_up=_gives_up(claimed, outcome)
        )
    if verdict is Verdict.ALREADY_APPLIED and _is_of_another(tx, stored, outcome.tokens):
        verdict = Verdict.SUPERSEDED
    if verdict is Verdict.APPLY:
        assert row is not None
        assert stored is not None
        after = _apply(tx, row, claimed, outcome)
        is_refused = after.refused_at is not None and stored.refused_at is None
        incident = incidents.opened(tx, after.client) if is_refused else None
        return Committed(verdict, after, incident)
    if stored is not None and stored.attempt_sequence == intent.sequence:
        _release(tx, stored, is_answered=_gives_up(claimed, outcome))
    is_parked = False
    if verdict is Verdict.SUPERSEDED:
        if outcome.tokens is not None:
            is_parked = park_late(tx, claimed.grant, outcome.tokens)
            if not is_parked:
                keep_orphan(tx, claimed.grant, intent.sequence, outcome.tokens)
        if outcome.kept is not None:
            keep_unreadable(tx, claimed.grant, intent, outcome.kept)
    return Committed(verdict, stored, is_parked=is_parked)


def _gives_up(claimed: Claim, outcome: Transition) -> bool:
    lost = GrantState.REAUTHORIZATION_REQUIRED
    return outcome.tokens is None and outcome.grant.state is lost is not claimed.grant.state


def _is_of_another(tx: Transaction, stored: Grant | None, tokens: TokenSet | None) -> bool:
    """Whether TOKENS came by another attempt than the adopted one, which had the same sequence.

    A failover of the database may lose a claim: two replicas then count the same attempt.
    """
    if stored is None or tokens is None or tokens.refresh_token is None:
        return False
    known = (stored.refresh_token_fingerprint, stored.predecessor_fingerprint)
    return tx.sealer.fingerprint(tokens.refresh_token) not in known


def _apply(tx: Transaction, row: sa.RowMapping, claimed: Claim, outcome: Transition) -> Grant:
    stored, intent = grant_of(row), claimed.intent
    after = merge(stored, claimed.grant, outcome.grant, intent)
    after = replace(after, revision=next_version(stored.revision, tx.now))
    values = status_values(after)
    if (tokens := outcome.tokens) is not None:
        values["adopted_sequence"] = intent.sequence
        values["attempt_sequence"] = after.attempt_sequence
        values |= _token_values(tx, row, stored, tokens, intent.presented)
    elif outcome.restores_predecessor:
        values |= _predecessor_values(row)
    elif after.state is GrantState.REAUTHORIZATION_REQUIRED:
        remember_spent(tx, stored, intent.presented)
        if stored.state is not after.state:
            note(tx, What.LOST, after, detail=after.reason)
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


def _release(tx: Transaction, stored: Grant, *, is_answered: bool) -> None:
    """End the lease of the latest attempt, which is open no longer if it IS_ANSWERED."""
    values: Values = {"lease_holder": None, "lease_taken_at": None}
    if is_answered and stored.intent is not None:
        values |= intent_values(stored.intent.without_one)
    tx.connection.execute(sa.update(grants).where(grants.c.id == stored.id).values(values))
