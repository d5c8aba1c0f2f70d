"""The authorization server itself, without HTTP: requests in, answers and redirects out.

Joins applications, authorization codes and families under one clock and one set of
options. Every method runs to its end without awaiting: two token requests are never
processed at the same time, however their waits overlap.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from refresher.sandbox.answers import (
    Answer,
    Refused,
    id_token,
    json_answer,
    refusal,
    required,
)
from refresher.sandbox.applications import Application, Applications
from refresher.sandbox.checks import check_resource, verify_challenge
from refresher.sandbox.families import Families, Family, TokenPair, TokenPolicy
from refresher.sandbox.machines import MachineGrants
from refresher.sandbox.messages import Bearer, Minted, Processed, TokenRequest
from refresher.sandbox.options import SandboxOptions

OWNER = "owner"

OPENID = "openid"
"""The scope for which a code brings an ID token too."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Code:
    """An authorization code; ``family`` is what its one exchange began."""

    client_id: str
    redirect_uri: str
    redirect_uri_was_sent: bool
    subject: str
    scope: tuple[str, ...]
    challenge: str | None
    expires_at: float
    family: Family | None = None


class AuthorizationServer:
    """All state of one sandbox."""

    def __init__(self, options: SandboxOptions, clock: Callable[[], float]) -> None:
        self.options = options
        self.families = Families()
        self.applications = Applications()
        self.resource: str | None = None
        """What tokens are for (RFC 8707); None for anything."""
        self._clock = clock
        self._codes: dict[str, _Code] = {}
        self._api_tokens: dict[str, Bearer] = {}
        self.machines = MachineGrants(
            options=options,
            families=self.families,
            applications=self.applications,
            known_scope=self._known_scope,
            clock=clock,
        )

    def register(
        self,
        *,
        name: str,
        description: str = "",
        redirect_uris: Sequence[str],
        client_id: str | None = None,
        client_secret: str | None = None,
        public: bool = False,
        policy: TokenPolicy | None = None,
        public_key: str | None = None,
        created_by: str = OWNER,
    ) -> Application:
        """Register an application; one of the same id is replaced.

        Args:
            public: it has no secret.
            policy: of its tokens; None for the sandbox's own.
            public_key: of its assertions, in PEM form.
            created_by: the account at the keyboard.

        Raises:
            PermissionError: that account has limited rights.
        """
        if not self.has_full_rights(created_by):
            raise PermissionError("only an account with full access may create an application")
        application = Application(
            client_id=client_id or f"client-{secrets.token_hex(8)}",
            client_secret=None if public else client_secret or secrets.token_urlsafe(24),
            name=name,
            description=description,
            redirect_uris=tuple(redirect_uris),
            policy=policy or self.options,
            public_key=public_key,
        )
        self.applications.add(application)
        return application

    def has_full_rights(self, subject: str) -> bool:
        return subject not in self.options.allowed_scopes

    def mint(self, *, client_id: str | None, subject: str, scope: str) -> Minted:
        """A grant as if the account had just authorized the client.

        Args:
            client_id: None for the application that exists from the start.
            scope: separated by commas or spaces.

        Raises:
            KeyError: there is no such client.
        """
        client_id = client_id or self.options.client_id
        application = self.applications.find(client_id)
        if application is None:
            raise KeyError(client_id)
        family, pair = self.families.open(
            client_id=client_id,
            subject=subject,
            scope=tuple(scope.replace(",", " ").split()),
            policy=application.policy,
            now=self._clock(),
        )
        is_live = application.policy.renews_with_access_token
        renewing = pair.access_token if is_live else pair.refresh_token
        assert renewing is not None
        return Minted(
            refresh_token=renewing,
            access_token=pair.access_token,
            expires_in=pair.expires_in,
            family_id=family.family_id,
        )

    def make_api_token(self, subject: str, rights: Sequence[str]) -> str:
        """A static token as the portal's page makes one; it never ends."""
        value = f"api-{secrets.token_urlsafe(24)}"
        self._api_tokens[value] = Bearer(subject=subject, scope=tuple(rights))
        return value

    def secrets(self) -> Iterator[str]:
        """Every secret this server ever knew, to be searched for where none may be."""
        yield from self.families.token_values()
        yield from (*self._codes, *self._api_tokens, *self.machines.secrets())
        yield from (id_token(code.subject, code.client_id) for code in self._codes.values())
        for application in self.applications:
            if application.client_secret is not None:
                yield application.client_secret

    def authorize(self, query: Mapping[str, str], *, issuer: str | None = None) -> str:
        """Process an authorization request (RFC 6749 section 4.1.1).

        Args:
            issuer: what the answer names itself (RFC 9207); None: it does not.

        Returns:
            Where the browser is sent: the redirect URI with a code or with an error.

        Raises:
            Refused: the client or the redirect URI is bad; the browser must stay here.
        """
        application = self.applications.find(query.get("client_id", ""))
        if application is None:
            raise Refused("invalid_request", "the client is unknown")
        redirect_uri = self.check_redirect_uri(application, query)
        try:
            manners = self.options.manners
            code = self._approve(application, redirect_uri, query)
            answer = {manners.code_parameter: code, **manners.in_redirect}
        except Refused as refused:
            answer = {"error": refused.error, "error_description": refused.description}
        if "state" in query:
            answer["state"] = query["state"]
        if issuer is not None:
            answer["iss"] = issuer
        return f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{urlencode(answer)}"

    def token(self, request: TokenRequest) -> Processed:
        """Process a token request; answers are those of RFC 6749 sections 5.1 and 5.2."""
        try:
            if request.problem is not None:
                raise request.problem
            return self._grant(request)
        except Refused as refused:
            return Processed(answer=refusal(refused))

    def bearer(self, authorization: str | None) -> Bearer | None:
        """Who an Authorization header speaks for; None if its token is not valid now."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        if token in self._api_tokens:
            return self._api_tokens[token]
        access_token = self.families.use(token, self._clock())
        if access_token is None:
            return None
        return Bearer(subject=access_token.family.subject, scope=access_token.scope)

    def authorize_device(self, request: TokenRequest, uri: str) -> Answer:
        """Process a device authorization request (RFC 8628 3.1)."""
        try:
            application = self.authenticate(request)
            return self.machines.authorize_device(application, request.parameters, uri)
        except Refused as refused:
            return refusal(refused)

    def revoke(self, request: TokenRequest) -> Answer:
        """Process a revocation request (RFC 7009)."""
        try:
            application = self.authenticate(request)
            token = required(request.parameters, "token")
            self.families.revoke_token(token, client_id=application.client_id, now=self._clock())
        except Refused as refused:
            return refusal(refused)
        return Answer(status=200, body=b"")

    def revoke_family(self, family_id: str, because: str = "revoked by the account") -> None:
        """End one authorization, as an account does on the server's own pages.

        Raises:
            KeyError: there is no such family.
        """
        family = self.families.find(family_id)
        if family is None:
            raise KeyError(family_id)
        self.families.revoke(family, because=because, now=self._clock())

    def check_redirect_uri(self, application: Application, query: Mapping[str, str]) -> str:
        """Where the answer to an authorization request goes.

        Raises:
            Refused: it is not registered.
        """
        uri = query.get(self.options.redirect_parameter)
        if uri is None and len(application.redirect_uris) == 1:
            return application.redirect_uris[0]
        any_port = self.options.dialect == "standard"
        if uri is None or not application.allows_redirect(uri, any_loopback_port=any_port):
            raise Refused("invalid_request", "the redirect URI is not registered")
        return uri

    def _approve(
        self, application: Application, redirect_uri: str, query: Mapping[str, str]
    ) -> str:
        """The code for an authorization request whose errors may be redirected."""
        if query.get("response_type") != "code":
            raise Refused("unsupported_response_type", "only code is supported")
        check_resource(self.resource, query)
        challenge = query.get("code_challenge")
        if challenge is not None and query.get("code_challenge_method") != "S256":
            raise Refused("invalid_request", "the code challenge method must be S256")
        scope = self._known_scope(query.get("scope"))
        approves = self.options.consent == "approve"
        if query.get("decision", "approve" if approves else "deny") == "deny":
            raise Refused("access_denied", "the account refused")
        subject = query.get("login_hint", OWNER)
        allowed = self.options.allowed_scopes.get(subject, scope)
        granted = tuple(name for name in scope if name in allowed)
        if not granted:
            raise Refused("invalid_scope", "the account may grant nothing of this scope")
        code = f"code-{secrets.token_urlsafe(16)}"
        self._codes[code] = _Code(
            client_id=application.client_id,
            redirect_uri=redirect_uri,
            redirect_uri_was_sent=self.options.redirect_parameter in query,
            subject=subject,
            scope=granted,
            challenge=challenge,
            expires_at=self._clock() + self.options.code_lifetime,
        )
        return code

    def _known_scope(self, text: str | None) -> tuple[str, ...]:
        known = self.options.scopes
        if not text:
            return known or ("read",)
        names = tuple(name for name in text.split(self.options.scope_separator) if name)
        if known and not set(names) <= set(known):
            raise Refused("invalid_scope", "the scope is unknown")
        return names

    def authenticate(self, request: TokenRequest) -> Application:
        """Who sends REQUEST.

        Raises:
            Refused: nobody that is known.
        """
        if request.problem is not None:
            raise request.problem
        # The portal documents parameters only; what it would do with Basic is not known.
        by_the_book = self.options.dialect == "standard"
        return self.applications.authenticate(
            request.parameters, request.authorization if by_the_book else None
        )

    def _sender(self, request: TokenRequest) -> Application:
        """Who sends REQUEST, which the token that it presents may be enough to tell."""
        if request.problem or not self.options.manners.is_unproven(request.parameters):
            return self.authenticate(request)
        if "client_id" in request.parameters or request.authorization is not None:
            raise Refused("invalid_request", "the token is enough")
        token = self.families.locate(required(request.parameters, "refresh_token"))
        known = None if token is None else self.applications.find(token.family.client_id)
        return known or self.authenticate(request)

    def _grant(self, request: TokenRequest) -> Processed:
        application = self.machines.signer(request.parameters) or self._sender(request)
        more: dict[str, str] = {}
        check_resource(self.resource, request.parameters)
        demands = self.options.openness.demands_proof
        is_refresh = request.parameters.get("grant_type") == "refresh_token"
        if demands == "all" or (demands == "refreshes" and is_refresh):
            raise Refused("invalid_grant", "DPoP proof JWT not provided")
        match required(request.parameters, "grant_type"):
            case "refresh_token":
                family, pair = self._refresh(application, request.parameters)
            case "authorization_code":
                family, pair = self._exchange_code(application, request.parameters)
                if OPENID in pair.scope:
                    more["id_token"] = id_token(family.subject, family.client_id)
            case _:
                family, pair = self.machines.grant(application, request.parameters)
        return Processed(
            answer=json_answer(self._success(pair) | more),
            family=family,
            generation=pair.generation,
        )

    def _success(self, pair: TokenPair) -> dict[str, str | int]:
        payload: dict[str, str | int] = {
            "access_token": pair.access_token,
            "token_type": "Bearer",
            "scope": self.options.scope_separator.join(pair.scope),
        }
        if pair.expires_in is not None:
            payload["expires_in"] = pair.expires_in
        if pair.refresh_token is not None:
            payload["refresh_token"] = pair.refresh_token
        return payload

    def _refresh(
        self, application: Application, parameters: Mapping[str, str]
    ) -> tuple[Family, TokenPair]:
        presented = required(parameters, "refresh_token")
        scope = parameters.get("scope")
        token = self.families.locate(presented)
        if token is not None and "exchanges" in parameters:
            is_first = token.generation == 1
            if is_first != (parameters["exchanges"] == "True"):
                raise Refused("invalid_grant", "a token of a login is exchanged, any other renewed")
        uri = parameters.get(self.options.redirect_parameter)
        if token is not None and uri is not None:
            expected = token.family.redirect_uri
            allowed = application.redirect_uris if expected is None else (expected,)
            if uri not in allowed:
                raise Refused("invalid_grant", "the redirect URI does not match")
        pair = self.families.refresh(
            presented,
            client_id=application.client_id,
            scope=self._known_scope(scope) if scope else None,
            now=self._clock(),
        )
        assert token is not None
        return token.family, pair

    def _exchange_code(
        self, application: Application, parameters: Mapping[str, str]
    ) -> tuple[Family, TokenPair]:
        code = self._codes.get(required(parameters, "code"))
        now = self._clock()
        if code is None or code.client_id != application.client_id:
            raise Refused("invalid_grant", "the code is unknown")
        if code.family is not None:
            # RFC 6749 section 4.1.2: a code used twice ends what the first use brought.
            self.families.revoke(code.family, because="reuse of a code", now=now)
            raise Refused("invalid_grant", "the code was used before")
        if now >= code.expires_at:
            raise Refused("invalid_grant", "the code expired")
        uri = parameters.get(self.options.redirect_parameter)
        if uri != code.redirect_uri and (uri is not None or code.redirect_uri_was_sent):
            raise Refused("invalid_grant", "the redirect URI does not match")
        verify_challenge(code.challenge, parameters.get("code_verifier"))
        code.family, pair = self.families.open(
            client_id=application.client_id,
            subject=code.subject,
            scope=code.scope,
            policy=application.policy,
            redirect_uri=code.redirect_uri,
            with_refresh_token=application.policy.refresh_token_at_authorization,
            now=now,
        )
        return code.family, pair
