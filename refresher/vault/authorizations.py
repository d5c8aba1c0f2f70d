"""The statements of what people do to grants: log in, set, revoke, remove, ask.

Each function is one operation of a transaction; ``Vault`` runs them durably.
"""

from dataclasses import replace

import sqlalchemy as sa

from refresher.domain import schedule
from refresher.domain.adoption import Transition
from refresher.domain.commit_rule import next_version
from refresher.domain.grants import Grant, GrantKind, GrantState, Reason, TokenSet
from refresher.domain.secret import Secret
from refresher.errors import DuplicateRefreshToken, GrantConflict, UnknownGrant
from refresher.vault.reading import read_one, update_all
from refresher.vault.rows import Transaction, Values, grant_of, status_values
from refresher.vault.schema import facts, grants
from refresher.vault.spent import remember_spent


def authorize(
    tx: Transaction, name: str, outcome: Transition, *, redirect_uri: str | None = None
) -> Grant:
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
    values: Values = {"refresh_token_sealed": None, "redirect_uri": redirect_uri}
    if tokens.refresh_token is not None:
        refuse_duplicate(tx, stored, tokens.refresh_token)
        values |= tx.sealer.refresh_token_values(
            stored.uid, tokens.refresh_token, presented=None, obtained_at=tx.now
        )
        remember_spent(tx, stored, tx.sealer.fingerprint(tokens.refresh_token))
    else:
        values |= {"refresh_token_fingerprint": None, "predecessor_fingerprint": None}
    return renew(tx, stored, after, tokens, values)


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
    return set_static(tx, stored, tokens)


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
    return write(tx, after, dict(_NO_SECRETS))


def remove(tx: Transaction, name: str) -> Grant:
    """Forget every secret of NAME; the row stays so that versions go on growing.

    Raises:
        UnknownGrant: there is none of this name.
    """
    stored = grant_of(existing_row(tx, name))
    after = replace(_without_tokens(stored), state=GrantState.REMOVED, reason=None, since=tx.now)
    return write(tx, after, dict(_NO_SECRETS))


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
    # A higher one is of an earlier life of the vault, and still what consumers read.
    outdated = version is not None and version < stored.version
    waits = stored.state is GrantState.REAUTHORIZATION_REQUIRED
    if outdated or waits or (limited and too_soon) or stored.refresh_token_fingerprint is None:
        return None
    after = replace(stored, due_at=tx.now)
    if stored.state is GrantState.PAUSED:
        after = replace(after, state=GrantState.DEGRADED, since=tx.now)
    return write(tx, after, {"requested_at": tx.now})


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
    update_all(tx, waiting, {"due_at": tx.now})
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
    return read_one(tx.connection, grants.c.name == name)


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


def set_static(tx: Transaction, stored: Grant, tokens: TokenSet) -> Grant:
    """Give STORED a new static token, which nobody but a person will replace."""
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
    return renew(tx, stored, after, tokens, {})


def renew(tx: Transaction, stored: Grant, after: Grant, tokens: TokenSet, values: Values) -> Grant:
    """Write AFTER with a new access token, and so a new version."""
    values |= tx.sealer.access_token_values(stored.uid, tokens)
    values["version"] = next_version(stored.version, tx.now)
    return write(tx, after, values)


def write(tx: Transaction, after: Grant, values: Values) -> Grant:
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
