"""What a claim presents, as text."""

from refresher.domain.grants import Claim
from refresher.domain.renewal import Renewal
from refresher.domain.secret import Secret


def secret_of(renewal: Renewal) -> Secret:
    """What RENEWAL presents, which is something."""
    assert renewal.presents is not None
    return renewal.presents


def presented(claim: Claim) -> str:
    """What CLAIM presents, as it goes over the wire."""
    return secret_of(claim.renewal).reveal()
