"""What renews a grant: what a claim presents, and whether there is anything to present."""

from dataclasses import replace

from refresher.domain.grants import GrantKind
from refresher.domain.renewal import RefreshToken
from refresher.domain.secret import Secret
from tests.domain.world import claimed, make_grant


def test_a_grant_can_be_renewed_while_it_has_a_refresh_token() -> None:
    grant = make_grant()
    assert grant.is_renewable
    assert not replace(grant, refresh_token_fingerprint=None).is_renewable
    assert not replace(grant, kind=GrantKind.STATIC, refresh_token_fingerprint=None).is_renewable


def test_a_renewal_does_not_show_what_it_presents() -> None:
    claim = claimed(make_grant())
    assert claim.renewal == RefreshToken(Secret("rt"))
    assert "presents=***" in repr(claim.renewal)
    assert "'rt'" not in repr(claim)
