"""Grants that need no browser: client credentials, assertions, token exchange, device codes.

Joins applications and families as the authorization server does, under the same clock.
"""

import base64
import json
import secrets
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from refresher.sandbox.answers import Answer, Refused, json_answer, required
from refresher.sandbox.applications import Application, Applications
from refresher.sandbox.families import Families, Family, TokenPair
from refresher.sandbox.options import SandboxOptions

Issued = tuple[Family, TokenPair]

URN = "urn:ietf:params:oauth:grant-type:"
JWT_BEARER = URN + "jwt-bearer"
TOKEN_EXCHANGE = URN + "token-exchange"
DEVICE_CODE = URN + "device_code"

_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:"

_LONGEST_ASSERTION = 3600.0
"""Seconds ahead that an assertion may end."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Device:
    """A device code; ``subject`` is who consented, ``decision`` what came of it."""

    client_id: str
    user_code: str
    scope: tuple[str, ...]
    expires_at: float
    interval: float
    polled_at: float | None = None
    subject: str | None = None
    is_denied: bool = False
    is_spent: bool = False


class MachineGrants:
    """The grants of one authorization server that nobody redirects a browser for."""

    def __init__(
        self,
        *,
        options: SandboxOptions,
        families: Families,
        applications: Applications,
        known_scope: Callable[[str | None], tuple[str, ...]],
        clock: Callable[[], float],
    ) -> None:
        self._options = options
        self._families = families
        self._applications = applications
        self._known_scope = known_scope
        self._clock = clock
        self._devices: dict[str, _Device] = {}
        self._seen: set[str] = set()

    def secrets(self) -> Iterator[str]:
        """Every device code, to be searched for where none may be."""
        yield from self._devices

    def signer(self, parameters: Mapping[str, str]) -> Application | None:
        """The application that an assertion is of which alone proves it (RFC 7521 4.1)."""
        if parameters.get("grant_type") != JWT_BEARER or "client_id" in parameters:
            return None
        issuer = _unverified(parameters.get("assertion", "")).get("iss")
        application = self._applications.find(str(issuer))
        if application is None:
            raise Refused("invalid_grant", "the issuer of the assertion is unknown")
        return application

    def grant(self, application: Application, parameters: Mapping[str, str]) -> Issued:
        """Process a token request of one of these grants.

        Raises:
            Refused: an error of the RFC that defines the grant.
        """
        match required(parameters, "grant_type"):
            case "client_credentials":
                return self._client_credentials(application, parameters)
            case grant_type if grant_type == JWT_BEARER:
                return self._assertion(application, parameters)
            case grant_type if grant_type == TOKEN_EXCHANGE:
                return self._exchange(application, parameters)
            case grant_type if grant_type == DEVICE_CODE:
                return self._device_code(application, parameters)
            case _:
                raise Refused("unsupported_grant_type", "the grant type is unknown")

    def authorize_device(
        self, application: Application, parameters: Mapping[str, str], verification_uri: str
    ) -> Answer:
        """Make a device code (RFC 8628 3.2)."""
        device = _Device(
            client_id=application.client_id,
            user_code="".join(secrets.choice(string.ascii_uppercase) for _ in range(8)),
            scope=self._known_scope(parameters.get("scope")),
            expires_at=self._clock() + self._options.device_code_lifetime,
            interval=self._options.device_interval,
        )
        code = f"device-{secrets.token_urlsafe(16)}"
        self._devices[code] = device
        return json_answer(
            {
                "device_code": code,
                "user_code": device.user_code,
                "verification_uri": verification_uri,
                "verification_uri_complete": f"{verification_uri}?user_code={device.user_code}",
                "expires_in": int(self._options.device_code_lifetime),
                "interval": device.interval,
            }
        )

    def decide(self, user_code: str, *, approve: bool, subject: str) -> None:
        """What the account at another machine answers.

        Raises:
            Refused: nobody asks under this code any more.
        """
        for device in self._devices.values():
            if device.user_code == user_code and self._clock() < device.expires_at:
                device.subject, device.is_denied = subject, not approve
                return
        raise Refused("invalid_request", "the user code is unknown")

    def _client_credentials(
        self, application: Application, parameters: Mapping[str, str]
    ) -> Issued:
        if application.client_secret is None:
            raise Refused("unauthorized_client", "a public client has no authorization of its own")
        self._check_audience(parameters)
        return self._open(application, application.client_id, parameters.get("scope"))

    def _assertion(self, application: Application, parameters: Mapping[str, str]) -> Issued:
        text = required(parameters, "assertion")
        if application.public_key is None:
            raise Refused("unauthorized_client", "the client has registered no key")
        try:
            key = RSAKey.import_key(application.public_key)
            claims = jwt.decode(text, key, algorithms=["RS256"]).claims
        except (JoseError, ValueError) as error:
            raise Refused("invalid_grant", "the assertion is not signed by the client") from error
        now = self._clock()
        end = claims.get("exp")
        if not isinstance(end, int) or not now < end <= now + _LONGEST_ASSERTION:
            raise Refused("invalid_grant", "the assertion has ended, or ends too late")
        if claims.get("iss") != application.client_id:
            raise Refused("invalid_grant", "the assertion is of another client")
        if claims.get("iat", 0) > now:
            raise Refused("invalid_grant", "the assertion is of the future")
        if claims.get("jti") in self._seen:
            raise Refused("invalid_grant", "the assertion was used before")
        self._seen.add(str(claims.get("jti")))
        subject = parameters.get("installation") or claims.get("sub") or application.client_id
        if subject in self._options.refused_subjects:
            raise Refused("invalid_grant", "the client may not act for this account")
        return self._open(application, str(subject), parameters.get("scope"))

    def _exchange(self, application: Application, parameters: Mapping[str, str]) -> Issued:
        presented = required(parameters, "subject_token")
        kind = required(parameters, "subject_token_type")
        # RFC 8693 2.2.2 has invalid_request for a subject token that is not valid.
        if kind == _TOKEN_TYPE + "access_token":
            token = self._families.use(presented, self._clock())
            family = None if token is None else token.family
        elif kind == _TOKEN_TYPE + "refresh_token":
            held = self._families.locate(presented)
            family = held.family if held and held.family.revoked_at is None else None
        else:
            raise Refused("invalid_request", "the type of the subject token is unknown")
        if family is None:
            raise Refused("invalid_request", "the subject token is not valid")
        self._check_audience(parameters)
        return self._open(application, family.subject, parameters.get("scope"))

    def _check_audience(self, parameters: Mapping[str, str]) -> None:
        known, asked = self._options.audiences, parameters.get("audience", "").split()
        if known and not set(asked) <= set(known):
            raise Refused("invalid_target", "the audience is unknown")

    def _device_code(self, application: Application, parameters: Mapping[str, str]) -> Issued:
        device = self._devices.get(required(parameters, "device_code"))
        if device is None or device.client_id != application.client_id or device.is_spent:
            raise Refused("invalid_grant", "the device code is unknown")
        now, polled_at = self._clock(), device.polled_at
        device.polled_at = now
        if now >= device.expires_at:
            raise Refused("expired_token", "the device code has expired")
        if device.is_denied:
            raise Refused("access_denied", "the account refused")
        if polled_at is not None and now - polled_at < device.interval:
            device.interval += 5
            raise Refused("slow_down", "polled too fast")
        if device.subject is None:
            raise Refused("authorization_pending", "nobody has consented yet")
        device.is_spent = True
        return self._families.open(
            client_id=application.client_id,
            subject=device.subject,
            scope=device.scope,
            policy=application.policy,
            with_refresh_token=application.policy.refresh_token_at_authorization,
            now=now,
        )

    def _open(self, application: Application, subject: str, scope: str | None) -> Issued:
        return self._families.open(
            client_id=application.client_id,
            subject=subject,
            scope=self._known_scope(scope),
            policy=application.policy,
            with_refresh_token=False,
            now=self._clock(),
        )


def _unverified(assertion: str) -> Mapping[str, Any]:
    """What ASSERTION claims, to find out whose key has to prove it."""
    try:
        payload = assertion.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}
