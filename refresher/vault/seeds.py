"""The statements that bring the vault in line with the settings or an import.

A seed is what somebody says a grant should be. It never undoes a rotation: a refresh
token is adopted once, and the vault alone knows its successors (FAILURES 28).
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from refresher.domain import authorizing
from refresher.domain.commit_rule import next_version
from refresher.domain.grants import Grant, GrantKind, GrantState, TokenSet
from refresher.domain.reasons import Reason
from refresher.domain.secret import Secret
from refresher.domain.seeds import Seed
from refresher.errors import GrantConflict
from refresher.vault import newcomers
from refresher.vault.authorizations import (
    NO_SECRETS,
    exchange_anew,
    existing_row,
    refuse_duplicate,
    remove,
    renew,
    row_by_name,
    set_static,
    write,
)
from refresher.vault.changes import What, note
from refresher.vault.refusals import is_of_one_row
from refresher.vault.rows import Transaction, Values, grant_of, rejection_values
from refresher.vault.schema import grants
from refresher.vault.spent import is_spent, remember_spent
from refresher.vault.terms import terms_of, terms_values


class SeedResult(StrEnum):
    """What applying a seed did."""

    ADDED = "added"
    ADOPTED = "adopted"
    """A known grant took a new refresh token or static token."""
    UPDATED = "updated"
    """Only its labels or scope changed."""
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Seeded:
    """What became of one seed."""

    result: SeedResult
    grant: Grant
    is_newest: bool = False
    """Its row stands behind all that there were before."""


def apply_seeds(
    tx: Transaction, wanted: Sequence[Seed], draw: float, *, origin: str, replace_spent: bool
) -> list[Seeded]:
    """Apply the seeds WANTED, those of grants that nobody knew in one go.

    Raises:
        GrantConflict, DuplicateRefreshToken: see ``apply_seed``.
    """
    added = newcomers.add(tx, wanted, draw, origin=origin)
    return [
        Seeded(SeedResult.ADDED, added[place], is_newest=True)
        if place in added
        else apply_seed(tx, seed, draw, origin=origin, replace_spent=replace_spent)
        for place, seed in enumerate(wanted)
    ]


def unchanged(tx: Transaction, wanted: Sequence[Seed]) -> set[str]:
    """The names of those of WANTED that are as they say already: nothing is to be written.

    Settings with thousands of grants are read again for one of them. So this asks about many
    at once, reads no sealed value, and builds no grant.
    """
    secrets_of = {
        place: seed.access_token if seed.kind is GrantKind.STATIC else seed.refresh_token
        for place, seed in enumerate(wanted)
    }
    prints = {
        place: tx.sealer.fingerprint(secret)
        for place, secret in secrets_of.items()
        if secret is not None
    }
    try:
        rows = {
            row.name: row
            for some in newcomers.parts([seed.name for seed in wanted])
            for row in tx.connection.execute(sa.select(*_DESCRIBED).where(grants.c.name.in_(some)))
        }
    except Exception as error:
        if not is_of_one_row(error):
            raise
        return set()  # each is looked at with care
    held = newcomers.held(tx, wanted, prints)
    noted = newcomers.noted(tx, wanted, prints)
    settled: set[str] = set()
    for place, seed in enumerate(wanted):
        row, mark = rows.get(seed.name), prints.get(place)
        if row is None or row.state == GrantState.REMOVED:
            continue
        is_described = (row.client, row.kind) == (seed.client, seed.kind) and (
            (row.labels, row.scope) == (dict(seed.labels), list(seed.scope))
        )
        is_taken = mark is None or mark == row.refresh_token_fingerprint
        is_spent = (
            (mark == row.predecessor_fingerprint or (seed.client, mark) in noted)
            and (seed.client, mark) not in held
            and row.reason != Reason.AWAITING_LOGIN
        )
        is_described = is_described and _asks_for(row, seed)
        if is_described and (is_taken or is_spent):
            settled.add(seed.name)
    return settled


def _asks_for(row: Any, seed: Seed) -> bool:
    """Whether a grant that renews itself asks already for what SEED says."""
    if not seed.kind.renews_itself:
        return True
    try:
        return terms_of({"subject": row.subject, "terms": row.terms}) == seed.terms
    except ValueError:  # it is looked at with care
        return False


_DESCRIBED = (
    *(grants.c.name, grants.c.client, grants.c.kind, grants.c.state, grants.c.reason),
    *(grants.c.labels, grants.c.scope, grants.c.subject, grants.c.terms),
    *(grants.c.refresh_token_fingerprint, grants.c.predecessor_fingerprint),
)


def apply_seed(
    tx: Transaction, seed: Seed, draw: float, *, origin: str, replace_spent: bool = False
) -> Seeded:
    """Bring the vault in line with SEED without ever undoing a rotation.

    Args:
        draw: spreads the first refresh of many seeds.
        replace_spent: adopt a refresh token even if it was adopted before.

    Raises:
        GrantConflict: the name belongs to a grant of another client or kind.
        DuplicateRefreshToken: another grant of the client holds this refresh token.
    """
    row = row_by_name(tx, seed.name)
    if row is not None and _is_of_another_kind(grant_of(row), row, seed):
        remove(tx, seed.name)
        row = row_by_name(tx, seed.name)
    if row is None or row["state"] == GrantState.REMOVED:
        grant = _insert(tx, seed, row, origin)
        note(tx, What.ADDED, grant)
        return Seeded(
            SeedResult.ADDED, _adopt_seed(tx, grant, seed, draw, replace_spent=replace_spent)
        )
    grant = grant_of(row)
    _refuse_conflict(grant, seed)
    adopted = _adopt_seed(tx, grant, seed, draw, replace_spent=replace_spent)
    changed = (dict(grant.labels), grant.scope) != (dict(seed.labels), seed.scope)
    if changed:
        note(tx, What.UPDATED, grant)
        described = {"labels": dict(seed.labels), "scope": list(seed.scope), "origin": origin}
        adopted = write(tx, adopted, described)
    if adopted.authorization_serial != grant.authorization_serial:
        note(tx, What.SEEDED, grant)
        return Seeded(SeedResult.ADOPTED, adopted)
    return Seeded(SeedResult.UPDATED if changed else SeedResult.UNCHANGED, adopted)


def _insert(tx: Transaction, seed: Seed, removed: sa.RowMapping | None, origin: str) -> Grant:
    """A new grant, taking over the row and the version of a removed one of its name."""
    values: Values = {
        "uid": secrets.token_hex(16),
        "name": seed.name,
        "kind": seed.kind.value,
        "client": seed.client,
        "origin": origin,
        "labels": dict(seed.labels),
        "scope": list(seed.scope),
        "state": GrantState.PENDING.value,
        "reason": Reason.AWAITING_LOGIN,
        "since": tx.now,
        "token_type": "Bearer",
        "granted_scope": "",
        "failures": 0,
        "failing_since": None,
        "fault": None,
        "served_at": None,
        "refused_at": None,
        "refusals": 0,
        "refresh_window": None,
        "early_refusals": 0,
        "requested_at": None,
        "request_interval": None,
        **rejection_values(None),
    }
    values |= NO_SECRETS | terms_values(seed.terms)
    if seed.kind.renews_itself:
        values["refresh_token_fingerprint"] = tx.sealer.fingerprint(Secret(seed.kind.value))
    if removed is not None:
        values["revision"] = next_version(removed["revision"], tx.now)
        tx.connection.execute(
            sa.update(grants).where(grants.c.id == removed["id"]).values(**values)
        )
    else:
        counters = ("authorization_serial", "attempt_sequence", "adopted_sequence", "version")
        values |= dict.fromkeys(counters, 0) | {"revision": next_version(0, tx.now)}
        tx.connection.execute(sa.insert(grants).values(**values))
    return grant_of(existing_row(tx, seed.name))


def _adopt_seed(
    tx: Transaction, grant: Grant, seed: Seed, draw: float, *, replace_spent: bool
) -> Grant:
    if seed.kind.renews_itself:
        return _adopt_terms(tx, grant, seed, draw)
    secret = seed.access_token if seed.kind is GrantKind.STATIC else seed.refresh_token
    if secret is None:
        return grant
    fingerprint = tx.sealer.fingerprint(secret)
    if fingerprint == grant.refresh_token_fingerprint:
        return grant
    if seed.kind is GrantKind.REFRESHABLE:
        refuse_duplicate(tx, grant, secret)
    if not replace_spent and is_spent(tx, grant, fingerprint):
        if grant.reason == Reason.AWAITING_LOGIN:
            return write(tx, replace(grant, reason=Reason.SEED_SPENT), {})
        return grant
    tokens = TokenSet(
        access_token=seed.access_token,
        refresh_token=seed.refresh_token,
        token_type=seed.token_type,
        issued_at=tx.now,
        expires_at=seed.expires_at,
    )
    remember_spent(tx, grant, fingerprint)
    if seed.kind is GrantKind.STATIC:
        return set_static(tx, grant, tokens)
    return _seed_refresh_token(tx, grant, tokens, draw, seed.refresh_token_idle)


def _adopt_terms(tx: Transaction, grant: Grant, seed: Seed, draw: float) -> Grant:
    """Have GRANT ask for what SEED says from now on, at once where that is new."""
    is_new = grant.status_reason == Reason.AWAITING_LOGIN
    if not is_new and (grant.terms, grant.scope) == (seed.terms, seed.scope):
        return grant
    return write(tx, authorizing.seeded(grant, None, tx.now, draw), terms_values(seed.terms))


def _seed_refresh_token(
    tx: Transaction, grant: Grant, tokens: TokenSet, draw: float, idle: float | None
) -> Grant:
    """Adopt a refresh token: due at once, or when the access token that came along asks."""
    assert tokens.refresh_token is not None
    end = tokens.expires_at
    is_live = tokens.access_token is not None and end is not None and end > tx.now
    after = authorizing.seeded(grant, end if is_live else None, tx.now, draw, idle=idle)
    values = tx.sealer.refresh_token_values(
        after, tokens.refresh_token, presented=None, obtained_at=tx.now
    )
    values |= {"redirect_uri": None, "predecessor_sealed": None}
    exchange_anew(tx, grant.name)
    if not is_live:
        return write(tx, after, values)
    return renew(tx, grant, after, tokens, values)


def _is_of_another_kind(grant: Grant, row: sa.RowMapping, seed: Seed) -> bool:
    """Whether GRANT, of ROW, gives way to SEED of another kind: nothing of it would be lost."""
    is_known = grant.state is not GrantState.REMOVED and grant.client == seed.client
    is_empty = grant.refresh_token_fingerprint is None and row["token_sealed"] is None
    return is_known and grant.kind is not seed.kind and (is_empty or grant.kind.renews_itself)


def _refuse_conflict(grant: Grant, seed: Seed) -> None:
    if (grant.client, grant.kind) == (seed.client, seed.kind):
        return
    raise GrantConflict(
        f"grant {grant.name} is a {grant.kind} grant of client {grant.client} in the vault, not a "
        f"{seed.kind} grant of client {seed.client}: give the new one another name, or "
        f"`refresher remove {grant.name}` first (its refresh token is then gone)"
    )
