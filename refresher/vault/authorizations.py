"""The statements of everything a person or the settings do to grants.

Each function is one operation of a transaction; ``Vault`` runs them durably.
"""

import secrets
from dataclasses import dataclass, replace
from enum import StrEnum

import sqlalchemy as sa

from refresher.domain import schedule
from refresher.domain.commit_rule import next_version
from refresher.domain.grants import Grant, GrantKind, GrantState, Reason, Seed, TokenSet
from refresher.domain.secret import Secret
from refresher.domain.transition import Transition, state_by_time
from refresher.errors import DuplicateRefreshToken, UnknownGrant, VaultError
from refresher.vault.rows import Transaction, Values, grant_of, status_values
from refresher.vault.schema import adopted_seeds, facts, grants


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


class GrantConflict(VaultError):
    """Raised when a seed contradicts a grant in a way that could cost its refresh token."""


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
    if row is None or row["state"] == GrantState.REMOVED:
        grant = _insert(tx, seed, row, origin)
        return Seeded(
            SeedResult.ADDED, _adopt_seed(tx, grant, seed, draw, replace_spent=replace_spent)
        )
    grant = grant_of(row)
    _refuse_conflict(grant, seed)
    adopted = _adopt_seed(tx, grant, seed, draw, replace_spent=replace_spent)
    changed = (dict(grant.labels), grant.scope) != (dict(seed.labels), seed.scope)
    if changed:
        described = {"labels": dict(seed.labels), "scope": list(seed.scope), "origin": origin}
        adopted = _write(tx, adopted, described)
    if adopted.authorization_serial != grant.authorization_serial:
        return Seeded(SeedResult.ADOPTED, adopted)
    return Seeded(SeedResult.UPDATED if changed else SeedResult.UNCHANGED, adopted)


def authorize(tx: Transaction, name: str, outcome: Transition) -> Grant:
    """Put the tokens of a login into the grant NAME and void every older exchange.

    Raises:
        UnknownGrant: it was removed meanwhile.
        DuplicateRefreshToken: the same refresh token belongs to another grant.
    """
    row = existing_row(tx, name)
    stored = grant_of(row)
    tokens = outcome.tokens
    assert tokens is not None
    after = replace(
        outcome.grant,
        revision=stored.revision,
        authorization_serial=stored.authorization_serial + 1,
    )
    values: Values = {"refresh_token_sealed": None}
    if tokens.refresh_token is not None:
        refuse_duplicate(tx, stored, tokens.refresh_token)
        values |= tx.sealer.refresh_token_values(
            stored.uid, tokens.refresh_token, presented=None, obtained_at=tx.now
        )
        _remember_seed(tx, stored, tokens.refresh_token)
    else:
        values |= {"refresh_token_fingerprint": None, "predecessor_fingerprint": None}
    return _renew(tx, stored, after, tokens, values)


def set_token(
    tx: Transaction, name: str, token: Secret, *, expires_at: float | None, token_type: str
) -> Grant:
    """Replace the static token of NAME.

    Raises:
        UnknownGrant: there is none of this name.
        GrantConflict: the grant is refreshed, not static.
    """
    row = existing_row(tx, name)
    stored = grant_of(row)
    if stored.kind is not GrantKind.STATIC:
        raise GrantConflict(
            f"grant {name} is refreshed by the daemon: use `refresher login {name}`"
        )
    tokens = TokenSet(
        access_token=token,
        refresh_token=None,
        token_type=token_type,
        issued_at=tx.now,
        expires_at=expires_at,
    )
    return _set_static(tx, stored, tokens)


def forget_tokens(tx: Transaction, name: str) -> Grant:
    """Forget the tokens of NAME, which were revoked; a login brings new ones.

    Raises:
        UnknownGrant: there is none of this name.
    """
    stored = grant_of(existing_row(tx, name))
    after = replace(
        _without_tokens(stored),
        state=GrantState.REAUTHORIZATION_REQUIRED,
        reason=Reason.REVOKED_HERE,
        since=tx.now,
    )
    return _write(tx, after, dict(_NO_SECRETS))


def remove(tx: Transaction, name: str) -> Grant:
    """Forget every secret of NAME; the row stays so that versions go on growing.

    Raises:
        UnknownGrant: there is none of this name.
    """
    stored = grant_of(existing_row(tx, name))
    after = replace(_without_tokens(stored), state=GrantState.REMOVED, reason=None, since=tx.now)
    return _write(tx, after, dict(_NO_SECRETS))


def request_refresh(
    tx: Transaction, name: str, *, version: int | None, limited: bool
) -> Grant | None:
    """Make NAME due now, if VERSION is still its current one and the limit allows it.

    Args:
        limited: consumers' requests are, to one per ``schedule.request_interval``.

    Returns:
        The grant when it is due now; None when the request changed nothing.

    Raises:
        UnknownGrant: there is none of this name.
    """
    row = existing_row(tx, name)
    stored = grant_of(row)
    last = row["requested_at"]
    too_soon = last is not None and 0 <= tx.now - last < schedule.request_interval(stored.lifetime)
    outdated = version is not None and version != stored.version
    waits = stored.state is GrantState.REAUTHORIZATION_REQUIRED
    if outdated or waits or (limited and too_soon) or stored.refresh_token_fingerprint is None:
        return None
    after = replace(stored, due_at=tx.now)
    if stored.state is GrantState.PAUSED:
        after = replace(after, state=GrantState.DEGRADED, since=tx.now)
    return _write(tx, after, {"requested_at": tx.now})


def touch(tx: Transaction) -> None:
    """Write one durable byte or two: a vault that takes this can take an answer."""
    name, value = "last_touched", str(tx.now).encode()
    tx.connection.execute(sa.delete(facts).where(facts.c.name == name))
    tx.connection.execute(sa.insert(facts).values(name=name, value=value))


def hasten(tx: Transaction, client: str) -> list[str]:
    """Make due the grants of CLIENT that wait for its configuration to be mended."""
    blocked = [f"{reason}%" for reason in (Reason.CLIENT_REJECTED, Reason.MISCONFIGURED)]
    waiting = sa.and_(
        grants.c.client == client,
        grants.c.due_at.is_not(None),
        sa.or_(*(grants.c.reason.like(pattern) for pattern in blocked)),
    )
    names = tx.connection.scalars(sa.select(grants.c.name).where(waiting)).all()
    tx.connection.execute(sa.update(grants).where(waiting).values(due_at=tx.now))
    return list(names)


def refuse_duplicate(tx: Transaction, grant: Grant, refresh_token: Secret) -> None:
    """Raise DuplicateRefreshToken when another grant of the client holds REFRESH_TOKEN."""
    owner = tx.connection.scalar(
        sa.select(grants.c.name).where(
            grants.c.client == grant.client,
            grants.c.refresh_token_fingerprint == tx.sealer.fingerprint(refresh_token),
            grants.c.id != grant.id,
        )
    )
    if owner is not None:
        raise DuplicateRefreshToken(grant.name, owner)


def row_by_name(tx: Transaction, name: str) -> sa.RowMapping | None:
    """The row NAME, removed ones included."""
    statement = sa.select(grants).where(grants.c.name == name).with_for_update()
    return tx.connection.execute(statement).mappings().one_or_none()


def existing_row(tx: Transaction, name: str) -> sa.RowMapping:
    """The row NAME, or UnknownGrant."""
    row = row_by_name(tx, name)
    if row is None or row["state"] == GrantState.REMOVED:
        raise UnknownGrant(name)
    return row


_NO_SECRETS: Values = {
    "refresh_token_sealed": None,
    "refresh_token_fingerprint": None,
    "predecessor_fingerprint": None,
    "token_sealed": None,
}


def _without_tokens(grant: Grant) -> Grant:
    """GRANT with nothing to refresh and nothing to publish; older exchanges are void."""
    return replace(
        grant,
        due_at=None,
        intent=None,
        failures=0,
        issued_at=None,
        expires_at=None,
        refresh_token_expires_at=None,
        authorization_serial=grant.authorization_serial + 1,
    )


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
    }
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
    secret = seed.access_token if seed.kind is GrantKind.STATIC else seed.refresh_token
    if secret is None:
        return grant
    fingerprint = tx.sealer.fingerprint(secret)
    if fingerprint == grant.refresh_token_fingerprint:
        return grant
    if seed.kind is GrantKind.REFRESHABLE:
        refuse_duplicate(tx, grant, secret)
    if not replace_spent and _was_adopted(tx, grant, fingerprint):
        if grant.reason == Reason.AWAITING_LOGIN:
            return _write(tx, replace(grant, reason=Reason.SEED_SPENT), {})
        return grant
    tokens = TokenSet(
        access_token=seed.access_token,
        refresh_token=seed.refresh_token,
        token_type=seed.token_type,
        issued_at=tx.now,
        expires_at=seed.expires_at,
    )
    _remember_seed(tx, grant, secret)
    if seed.kind is GrantKind.STATIC:
        return _set_static(tx, grant, tokens)
    return _seed_refresh_token(tx, grant, tokens, draw)


def _seed_refresh_token(tx: Transaction, grant: Grant, tokens: TokenSet, draw: float) -> Grant:
    """Adopt a refresh token: due at once, or when the access token that came along asks."""
    assert tokens.refresh_token is not None
    values = tx.sealer.refresh_token_values(
        grant.uid, tokens.refresh_token, presented=None, obtained_at=tx.now
    )
    after = replace(
        grant,
        authorization_serial=grant.authorization_serial + 1,
        reason=None,
        since=tx.now,
        due_at=tx.now,
        failures=0,
        intent=None,
        refresh_token_expires_at=None,
    )
    after = replace(after, state=state_by_time(after, tx.now))
    end = tokens.expires_at
    if tokens.access_token is None or end is None or end <= tx.now:
        return _write(tx, after, values)
    after = replace(
        after,
        state=GrantState.FRESH,
        issued_at=tx.now,
        expires_at=end,
        due_at=schedule.refresh_at(tx.now, end, draw),
    )
    return _renew(tx, grant, after, tokens, values)


def _set_static(tx: Transaction, stored: Grant, tokens: TokenSet) -> Grant:
    after = replace(
        stored,
        authorization_serial=stored.authorization_serial + 1,
        state=GrantState.FRESH,
        reason=None,
        since=tx.now,
        issued_at=tx.now,
        expires_at=tokens.expires_at,
        due_at=None,
    )
    return _renew(tx, stored, after, tokens, {})


def _renew(tx: Transaction, stored: Grant, after: Grant, tokens: TokenSet, values: Values) -> Grant:
    """Write AFTER with a new access token, and so a new version."""
    values |= tx.sealer.access_token_values(stored.uid, tokens)
    values["version"] = next_version(stored.version, tx.now)
    return _write(tx, after, values)


def _write(tx: Transaction, after: Grant, values: Values) -> Grant:
    """Store AFTER's status and VALUES; give back the row as it now is."""
    revised = replace(after, revision=next_version(after.revision, tx.now))
    tx.connection.execute(
        sa.update(grants)
        .where(grants.c.id == after.id)
        .values(
            **status_values(revised) | {"authorization_serial": after.authorization_serial} | values
        )
    )
    row = tx.connection.execute(sa.select(grants).where(grants.c.id == after.id)).mappings().one()
    return grant_of(row)


def _refuse_conflict(grant: Grant, seed: Seed) -> None:
    if (grant.client, grant.kind) == (seed.client, seed.kind):
        return
    raise GrantConflict(
        f"grant {grant.name} is a {grant.kind} grant of client {grant.client} in the vault, not a "
        f"{seed.kind} grant of client {seed.client}: give the new one another name, or "
        f"`refresher remove {grant.name}` first (its refresh token is then gone)"
    )


def _was_adopted(tx: Transaction, grant: Grant, fingerprint: bytes) -> bool:
    found = tx.connection.scalar(
        sa.select(adopted_seeds.c.adopted_at).where(
            adopted_seeds.c.client == (grant.client or ""),
            adopted_seeds.c.fingerprint == fingerprint,
        )
    )
    return found is not None


def _remember_seed(tx: Transaction, grant: Grant, secret: Secret) -> None:
    fingerprint = tx.sealer.fingerprint(secret)
    if not _was_adopted(tx, grant, fingerprint):
        tx.connection.execute(
            sa.insert(adopted_seeds).values(
                client=grant.client or "",
                fingerprint=fingerprint,
                grant_name=grant.name,
                adopted_at=tx.now,
            )
        )
