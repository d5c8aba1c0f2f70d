"""Grants that renew themselves: what differs for them from one that a refresh token renews.

Nothing of theirs can be lost. A request whose answer is lost is sent again, and what comes
brings no refresh token into the vault: whoever needs none must not begin to depend on one.
"""

from dataclasses import replace

from refresher.domain.clients import Client
from refresher.domain.grants import Grant
from refresher.domain.outcomes import Outcome, Refreshed, RefreshTokenOnly, Transient
from refresher.domain.quirks import Rotation, RotationProfile
from refresher.domain.reasons import Reason


def as_it_acts(client: Client, grant: Grant) -> Client:
    """CLIENT as its server acts towards GRANT: no refresh token is spent, or dies unused."""
    if not grant.kind.renews_itself:
        return client
    quirks = replace(client.quirks, rotation=_SPENDS_NOTHING, refresh_token_idle=None)
    return replace(client, quirks=quirks)


def without_refresh_token(outcome: Outcome) -> Outcome:
    """OUTCOME as it counts for a grant that renews itself."""
    match outcome:
        case Refreshed(answer=answer, status=status):
            answer = replace(answer, refresh_token=None, refresh_token_expires_in=None)
            return Refreshed(answer=replace(answer, is_searched=False), status=status)
        case RefreshTokenOnly(status=status):
            return Transient(reason=Reason.NO_ACCESS_TOKEN, status=status)
        case _:
            return outcome


_SPENDS_NOTHING = Rotation(RotationProfile.NONE)
