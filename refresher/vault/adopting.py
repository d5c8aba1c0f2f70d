"""The statement by which an operator gives a kept refresh token to a grant.

It never takes the place of one that may be good: the grant holds none, or one that its server
has finally refused.
"""

import sqlalchemy as sa

from refresher.domain.grants import Grant, GrantKind, GrantState, Seed
from refresher.domain.secret import Secret
from refresher.errors import GrantConflict
from refresher.vault.authorizations import row_by_name
from refresher.vault.changes import What, note
from refresher.vault.kept import ORPHAN, forget, opened, row_of
from refresher.vault.rows import Transaction, grant_of
from refresher.vault.seeds import apply_seed


def adopt(tx: Transaction, kept_id: int, name: str | None, draw: float) -> Grant:
    """Give the refresh token of the orphan KEPT_ID to the grant NAME, due at once.

    Args:
        name: None takes the grant that it came for. One that is not known is made, where it is
            known of which client the refresh token is.
        draw: spreads refreshes.

    Raises:
        UnknownAnswer: there is no such kept answer.
        GrantConflict: it has no refresh token, or a spent one, or the grant may not have it.
        DuplicateRefreshToken: another grant has it.
        VaultKeyError: no key opens it.
    """
    row = row_of(tx, kept_id)
    if row["kind"] != ORPHAN:
        raise GrantConflict(f"kept answer {kept_id} was not understood: nobody knows its tokens")
    content = opened(row, tx.sealer)
    if content["refresh_token"] is None:
        raise GrantConflict(f"kept answer {kept_id} has no refresh token: it keeps nothing alive")
    refresh_token = Secret(content["refresh_token"])
    name = name or str(row["grant_name"])
    seed, origin = _seed(row_by_name(tx, name), name, content.get("client"), refresh_token)
    after = apply_seed(tx, seed, draw, origin=origin).grant
    if after.refresh_token_fingerprint != tx.sealer.fingerprint(refresh_token):
        raise GrantConflict(
            f"the refresh token of kept answer {kept_id} was adopted, or finally refused, before"
        )
    note(tx, What.ANSWER_ADOPTED, after, detail=f"answer {kept_id}")
    forget(tx, kept_id)
    return after


def _seed(
    row: sa.RowMapping | None, name: str, client: str | None, refresh_token: Secret
) -> tuple[Seed, str]:
    """What gives REFRESH_TOKEN, of CLIENT as far as is known, to the grant in ROW; its origin."""
    if row is None or row["state"] == GrantState.REMOVED:
        if client is None:
            raise GrantConflict(
                f"there is no grant {name}, and nobody knows of which client this refresh token "
                "is: name a grant that takes it"
            )
        return Seed(name=name, client=client, refresh_token=refresh_token), "runtime"
    grant = grant_of(row)
    if grant.kind is GrantKind.STATIC or client not in {None, grant.client}:
        raise GrantConflict(f"the refresh token is of client {client}, and grant {name} is not")
    is_lost = grant.state is GrantState.REAUTHORIZATION_REQUIRED
    if grant.refresh_token_fingerprint is not None and not is_lost:
        raise GrantConflict(
            f"grant {name} holds a refresh token that may be newer, and works ({grant.state}): "
            "it takes none that was kept"
        )
    if row["lease_holder"] is not None:
        raise GrantConflict(f"an exchange of grant {name} is out: ask again when it has ended")
    seed = Seed(
        name=name,
        client=grant.client,
        refresh_token=refresh_token,
        scope=grant.scope,
        labels=grant.labels,
    )
    return seed, grant.origin
