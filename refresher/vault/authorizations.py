"""The statements of what people do to grants: log in, set, remove, ask.

Each function is one operation of a transaction; ``Vault`` runs them durably.
"""

from dataclasses import replace
from functools import partial

import sqlalchemy as sa

from refresher.domain import authorizing
from refresher.domain.adoption import Transition
from refresher.domain.commit_rule import next_version
from refresher.domain.grants import Grant, GrantKind, GrantState, TokenSet
from refresher.domain.logins import NO_LOGIN, Consent
from refresher.domain.pauses import at_its_end
from refresher.domain.reasons import Reason
from refresher.domain.secret import Secret
from refresher.errors import DuplicateRefreshToken, GrantConflict, UnknownGrant
from refresher.vault import logins
from refresher.vault.changes import What, note
from refresher.vault.reading import guarded, read_all, read_one
from refresher.vault.rows import Transaction, Values, grant_of, status_values
from refresher.vault.schema import IS_EXCHANGED, grants
from refresher.vault.spent import remember_spent


def authorize(
    tx: Transaction, name: str, outcome: Transition, consent: Consent = NO_LOGIN
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
    after = authorizing.logged_in(stored, outcome.grant, tx.now)
    values: Values = {
        "refresh_token_sealed": None,
        "predecessor_sealed": None,
        "redirect_uri": consent.redirect_uri,
    }
    if tokens.refresh_token is not None:
        refuse_duplicate(tx, stored, tokens.refresh_token)
        values |= tx.sealer.refresh_token_values(
            after, tokens.refresh_token, presented=None, obtained_at=tx.now
        )
        remember_spent(tx, stored, tx.sealer.fingerprint(tokens.refresh_token))
    else:
        values |= {"refresh_token_fingerprint": None, "predecessor_fingerprint": None}
    note(tx, What.AUTHORIZED, stored)
    if consent.login is not None:
        logins.settle(tx, consent.login)
    exchange_anew(tx, name)
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
    note(tx, What.TOKEN_SET, stored)
    return set_static(tx, stored, tokens)


def remove(tx: Transaction, name: str) -> Grant:
    """Forget every secret of NAME; the row stays so that versions go on growing.

    Its refresh token is never taken again by itself: whoever has it now may have rotated it.

    Raises:
        UnknownGrant: there is none of this name.
    """
    stored = grant_of(existing_row(tx, name))
    for fingerprint in (stored.refresh_token_fingerprint, stored.predecessor_fingerprint):
        if fingerprint is not None:
            remember_spent(tx, stored, fingerprint)
    removed = authorizing.without_tokens(stored, GrantState.REMOVED, Reason.REMOVED_HERE, tx.now)
    note(tx, What.REMOVED, stored)
    return write(tx, removed, dict(NO_SECRETS))


def request_refresh(tx: Transaction, name: str) -> Grant | None:
    """Make NAME due now, on an operator's word, which ends no pause (``pauses``).

    Returns:
        The grant when it is due now; None when it cannot be refreshed, or is paused.

    Raises:
        UnknownGrant: there is none of this name.
    """
    stored = at_its_end(grant_of(existing_row(tx, name)), tx.now)
    after = authorizing.asked_for(stored, tx.now)
    if after is None:
        return None
    note(tx, What.REFRESH_ORDERED, stored)
    return write(tx, after, {"requested_at": after.requested_at})


def refuse_duplicate(tx: Transaction, grant: Grant, refresh_token: Secret) -> None:
    """Raise DuplicateRefreshToken when another grant of the client holds REFRESH_TOKEN."""
    owner = owner_of(tx, grant.client, refresh_token, but=grant.id)
    if owner is not None:
        raise DuplicateRefreshToken(grant.name, owner)


def owner_of(
    tx: Transaction, client: str | None, refresh_token: Secret, *, but: int | None
) -> str | None:
    """The name of the grant of CLIENT that holds REFRESH_TOKEN, the grant BUT aside."""
    holds = sa.and_(
        grants.c.client == client,
        grants.c.refresh_token_fingerprint == tx.sealer.fingerprint(refresh_token),
    )
    if but is not None:
        holds = sa.and_(holds, grants.c.id != but)
    return tx.connection.scalar(sa.select(grants.c.name).where(holds))


def row_by_name(tx: Transaction, name: str) -> sa.RowMapping | None:
    """The row NAME, removed ones included."""
    return read_one(tx.connection, grants.c.name == name)


def existing_row(tx: Transaction, name: str) -> sa.RowMapping:
    """The row NAME, or UnknownGrant."""
    row = row_by_name(tx, name)
    if row is None or row["state"] == GrantState.REMOVED:
        raise UnknownGrant(name)
    return row


NO_SECRETS: Values = {
    "refresh_token_sealed": None,
    "refresh_token_fingerprint": None,
    "predecessor_fingerprint": None,
    "predecessor_sealed": None,
    "token_sealed": None,
}
"""The columns of a grant that holds no token."""


def set_static(tx: Transaction, stored: Grant, tokens: TokenSet) -> Grant:
    """Give STORED a new static token, which nobody but a person will replace."""
    after = authorizing.given_static(stored, tokens.expires_at, tx.now)
    exchange_anew(tx, stored.name)
    return renew(tx, stored, after, tokens, {})


def exchange_anew(tx: Transaction, name: str) -> None:
    """Have the grants that exchange a token of NAME, which is authorized anew, do so at once."""
    depends = sa.and_(grants.c.subject == name, IS_EXCHANGED)
    for grant in read_all(tx.connection, tx.aside, depends, grant_of):
        if grant.state is not GrantState.REMOVED:
            again = authorizing.exchanged_anew(grant, tx.now)
            guarded(tx, grant.id, partial(write, tx, again, {}))


def renew(tx: Transaction, stored: Grant, after: Grant, tokens: TokenSet, values: Values) -> Grant:
    """Write AFTER with a new access token, and so a new version."""
    values |= tx.sealer.access_token_values(after, tokens)
    values["version"] = next_version(stored.version, tx.now)
    return write(tx, after, values)


def write(tx: Transaction, after: Grant, values: Values) -> Grant:
    """Store AFTER's status and VALUES; give back the row as it now is.

    Where AFTER is another authorization, what stays in the row is sealed for it.
    """
    revised = replace(after, revision=next_version(after.revision, tx.now))
    row = read_one(tx.connection, grants.c.id == after.id)
    assert row is not None
    values = tx.sealer.rebound(row, after, values) | values
    tx.connection.execute(
        sa.update(grants)
        .where(grants.c.id == after.id)
        .values(
            **status_values(revised) | {"authorization_serial": after.authorization_serial} | values
        )
    )
    written = tx.connection.execute(sa.select(grants).where(grants.c.id == after.id))
    return grant_of(written.mappings().one())
