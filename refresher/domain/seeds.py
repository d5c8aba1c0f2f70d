"""What the settings, an import or a login say a grant should be."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from refresher.domain.grants import GrantKind
from refresher.domain.renewal import NO_TERMS, Terms
from refresher.domain.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """What the settings, an import or a login say a grant should be.

    A refresh token in it is adopted only if its fingerprint never was before: the vault,
    not the settings, knows the rotated successor (FAILURES 28).
    """

    name: str
    kind: GrantKind = GrantKind.REFRESHABLE
    client: str | None = None
    scope: tuple[str, ...] = ()
    terms: Terms = NO_TERMS
    labels: Mapping[str, str] = field(default_factory=dict)
    refresh_token: Secret | None = None
    access_token: Secret | None = None
    """The static token, or an access token that an import brings along."""
    expires_at: float | None = None
    token_type: str = "Bearer"
    refresh_token_idle: float | None = None
    """Seconds after which the refresh token dies unused."""
