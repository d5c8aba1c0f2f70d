"""What renews a grant: what an exchange presents to the token endpoint.

A closed union: every ``match`` over a renewal ends in ``assert_never``.
"""

from dataclasses import dataclass

from refresher.domain.secret import Secret


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """The refresh_token grant (RFC 6749 6), whose token many servers take once."""

    presents: Secret
    """What proves the authorization; its fingerprint is in the intent."""


Renewal = RefreshToken

FORGOTTEN = RefreshToken(Secret(""))
"""Of an exchange that is over: what it presented is kept as a fingerprint alone. Never sent."""
