"""Which refresh tokens are never taken from anybody again, by fingerprint.

Those adopted once, because the vault knows their successors (FAILURES 28), and those a
server finally rejected (guarantee G6): also under another name, or after a removal.
"""

import sqlalchemy as sa

from refresher.domain.grants import Grant
from refresher.vault.rows import Transaction
from refresher.vault.schema import adopted_seeds


def remember_spent(tx: Transaction, grant: Grant, fingerprint: bytes) -> None:
    """Note that no seed may bring the secret of FINGERPRINT to the client of GRANT again."""
    if not _is_noted(tx, grant, fingerprint):
        tx.connection.execute(
            sa.insert(adopted_seeds).values(
                client=grant.client or "",
                fingerprint=fingerprint,
                grant_name=grant.name,
                adopted_at=tx.now,
            )
        )


def is_spent(tx: Transaction, grant: Grant, fingerprint: bytes) -> bool:
    """Whether the secret of FINGERPRINT was adopted or rejected, or is what GRANT rotated from."""
    return fingerprint == grant.predecessor_fingerprint or _is_noted(tx, grant, fingerprint)


def _is_noted(tx: Transaction, grant: Grant, fingerprint: bytes) -> bool:
    found = tx.connection.scalar(
        sa.select(adopted_seeds.c.adopted_at).where(
            adopted_seeds.c.client == (grant.client or ""),
            adopted_seeds.c.fingerprint == fingerprint,
        )
    )
    return found is not None
