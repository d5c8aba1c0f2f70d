"""What a claimed grant presents, taken out of the vault in the transaction of its claim."""

from typing import assert_never

from refresher.domain.grants import Grant, GrantKind, GrantState
from refresher.domain.renewal import (
    Assertion,
    ClientCredentials,
    RefreshToken,
    Renewal,
    SubjectToken,
    SubjectTokenType,
)
from refresher.domain.secret import Secret
from refresher.errors import GrantSetAside, VaultKeyError
from refresher.vault.reading import read_one
from refresher.vault.rows import DAMAGED, Row, Transaction, grant_of
from refresher.vault.schema import grants

LIVES_YET = 2.0
"""Seconds a subject's access token must live yet: its exchange takes a while."""


def renewal_of(tx: Transaction, row: Row, grant: Grant) -> Renewal:
    """What GRANT, of ROW, presents at its next exchange.

    Raises:
        VaultKeyError: no key opens its own refresh token.
        GrantSetAside: its row claims that nothing renews it.
    """
    match grant.kind:
        case GrantKind.REFRESHABLE:
            is_first = grant.issued_at is not None and grant.issued_at == grant.authorized_at
            return RefreshToken(tx.sealer.refresh_token(row), is_first=is_first)
        case GrantKind.CLIENT:
            return ClientCredentials(grant.terms)
        case GrantKind.ASSERTION:
            return Assertion(grant.terms)
        case GrantKind.EXCHANGE:
            return SubjectToken(_subject_token(tx, grant), grant.terms)
        case GrantKind.STATIC:
            raise GrantSetAside(DAMAGED)
        case _:
            assert_never(grant.kind)


def _subject_token(tx: Transaction, grant: Grant) -> Secret | None:
    """The token that GRANT exchanges; None where its subject has none that lives.

    A subject that cannot be read is as good as none: it is set aside by whoever works on it.
    """
    try:
        row = read_one(tx.connection, grants.c.name == grant.terms.subject)
        if row is None:
            return None
        subject = grant_of(row)
        if subject.state is GrantState.REMOVED:
            return None
        if grant.terms.subject_token is SubjectTokenType.REFRESH_TOKEN:
            is_held = subject.kind is GrantKind.REFRESHABLE and subject.is_renewable
            is_lost = subject.state is GrantState.REAUTHORIZATION_REQUIRED
            return tx.sealer.refresh_token(row) if is_held and not is_lost else None
        is_over = subject.expires_at is not None and subject.expires_at < tx.now + LIVES_YET
        if is_over or not _is_of_its_authorization(subject):
            return None
        return tx.sealer.access_token(row)[0]
    except (GrantSetAside, VaultKeyError):
        return None


def _is_of_its_authorization(subject: Grant) -> bool:
    """Whether the access token of SUBJECT is of its last login or import, not of one before.

    What was imported alone has brought none yet, and what is published is another account's.
    """
    if subject.kind is not GrantKind.REFRESHABLE or subject.served_at is not None:
        return True
    imported_at, issued_at = subject.refresh_token_obtained_at, subject.issued_at
    return imported_at is not None and issued_at is not None and issued_at >= imported_at
