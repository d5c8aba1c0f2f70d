"""How the token endpoint of a real provider differs from the RFCs: names, places, shapes.

Pure, and beside the rules: what is asked is put into the standard's words before the
server sees it, and its answer into the provider's words after.
"""

import json
from collections.abc import Mapping
from dataclasses import field
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import urlencode

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from refresher.sandbox.answers import Answer, Refused

Expiry = Literal["seconds", "milliseconds", "text", "epoch", "epoch_ms", "iso"]

EXCHANGE_PATH = "/exchange"

FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Manners:
    """What one provider does its own way.

    Args:
        parameter_names: of the standard's parameters, what the provider calls them.
        refresh_grant_type: what the grant type of a refresh is called.
        exchange_grant_type: what the access token of a login is exchanged by, once and before
            any refresh; at the path ``/exchange``.
        authenticates_refresh: False: a refresh shows nothing but the token, or is refused.
        refresh_path: where refreshes go, and nothing else; None: to the token endpoint.
        wants_at_login: parameters without which an authorization request is refused.
        wants_at_code: the same when a code is redeemed.
        wants_at_refresh: the same at a refresh.
        headers_at_code: headers, in lower case, without which a code is refused.
        headers_at_refresh: the same at a refresh.
        answer_path: the object that the tokens are in.
        answer_names: of the standard's fields, what the provider calls them.
        around: fields around the tokens, or beside them.
        expiry: how the life of an access token is told.
        form_answers: answers are form-encoded.
        errors_in: the field of an answer of status 200 that holds the error's code; ``0``
            where nothing failed.
        error_codes: of the standard's codes, what the provider says instead.
        code_parameter: what the code is called in the redirect.
        in_redirect: more parameters of the redirect.
    """

    parameter_names: Mapping[str, str] = field(default_factory=dict)
    refresh_grant_type: str = "refresh_token"
    exchange_grant_type: str | None = None
    authenticates_refresh: bool = True
    refresh_path: str | None = None
    wants_at_login: Mapping[str, str] = field(default_factory=dict)
    wants_at_code: Mapping[str, str] = field(default_factory=dict)
    wants_at_refresh: Mapping[str, str] = field(default_factory=dict)
    headers_at_code: Mapping[str, str] = field(default_factory=dict)
    headers_at_refresh: Mapping[str, str] = field(default_factory=dict)
    answer_path: str = ""
    answer_names: Mapping[str, str] = field(default_factory=dict)
    around: Mapping[str, Any] = field(default_factory=dict)
    expiry: Expiry = "seconds"
    form_answers: bool = False
    errors_in: str | None = None
    error_codes: Mapping[str, str] = field(default_factory=dict)
    code_parameter: str = "code"
    in_redirect: Mapping[str, str] = field(default_factory=dict)

    @property
    def more_paths(self) -> tuple[str, ...]:
        """Where token requests go beside the token endpoint."""
        exchange = None if self.exchange_grant_type is None else EXCHANGE_PATH
        return tuple(filter(None, (self.refresh_path, exchange)))

    def read(self, parameters: Mapping[str, str]) -> dict[str, str]:
        """PARAMETERS under the standard's names; the standard's own count for nothing."""
        theirs = {theirs: name for name, theirs in self.parameter_names.items()}
        hidden = self.parameter_names.keys()
        read = {
            theirs.get(name, name): value
            for name, value in parameters.items()
            if name not in hidden
        }
        asked = read.get("grant_type")
        if asked in {self.refresh_grant_type, self.exchange_grant_type} - {None}:
            read |= {"grant_type": "refresh_token"}
            if self.exchange_grant_type is not None:
                read |= {"exchanges": str(asked == self.exchange_grant_type)}
        elif asked == "refresh_token":
            read |= {"grant_type": "unknown"}
        return read

    def is_unproven(self, parameters: Mapping[str, str]) -> bool:
        """Whether a request with PARAMETERS shows nothing but its token."""
        is_refresh = parameters.get("grant_type") == "refresh_token"
        is_exchange = parameters.get("exchanges") == "True"
        return is_refresh and not (self.authenticates_refresh or is_exchange)

    def check(self, parameters: Mapping[str, str], headers: Mapping[str, str], path: str) -> None:
        """Refuse a token request that lacks what this provider wants.

        Raises:
            Refused: says what is missing, or that it went to the wrong place.
        """
        is_refresh = parameters.get("grant_type") == "refresh_token"
        expected = EXCHANGE_PATH if parameters.get("exchanges") == "True" else self.refresh_path
        if self.refresh_path is not None and is_refresh != (path == expected):
            raise Refused("invalid_request", "that is not asked here")
        wanted = self.wants_at_refresh if is_refresh else self.wants_at_code
        _check(wanted, parameters)
        _check(self.headers_at_refresh if is_refresh else self.headers_at_code, headers)

    def check_login(self, query: Mapping[str, str]) -> None:
        """Refuse an authorization request that lacks what this provider wants.

        Raises:
            Refused: says what is missing.
        """
        _check(self.wants_at_login, query)

    def write(self, answer: Answer, now: float) -> Answer:
        """ANSWER as this provider puts it."""
        fields: dict[str, Any] = json.loads(answer.body)
        status = answer.status
        if "error" in fields:
            if self.errors_in is not None:
                code = self.error_codes.get(fields["error"], fields["error"])
                fields = {self.errors_in: code, "message": "it failed"}
                status = 200
        else:
            fields = self._shaped(fields, now)
        if self.form_answers:
            body = urlencode({name: str(value) for name, value in fields.items()}).encode()
            headers = {**answer.headers, "Content-Type": FORM}
        else:
            body, headers = json.dumps(fields).encode(), dict(answer.headers)
        return Answer(status=status, body=body, headers=headers, error=answer.error)

    def _shaped(self, fields: dict[str, Any], now: float) -> dict[str, Any]:
        if "expires_in" in fields:
            fields["expires_in"] = _told(fields["expires_in"], now, self.expiry)
        named = {self.answer_names.get(name, name): value for name, value in fields.items()}
        if self.answer_path:
            for name in reversed(self.answer_path.split(".")):
                named = {name: named}
        told = {} if self.errors_in is None else {self.errors_in: 0}
        return {**self.around, **told, **named}


def _check(wanted: Mapping[str, str], found: Mapping[str, str]) -> None:
    for name, value in wanted.items():
        if found.get(name) != value:
            raise Refused("invalid_request", f"{name} is missing")


def _told(seconds: int, now: float, expiry: Expiry) -> int | str:
    match expiry:
        case "seconds":
            return seconds
        case "milliseconds":
            return seconds * 1000
        case "text":
            return str(seconds)
        case "epoch":
            return int(now) + seconds
        case "epoch_ms":
            return int((now + seconds) * 1000)
        case "iso":
            return datetime.fromtimestamp(int(now) + seconds, UTC).isoformat()
