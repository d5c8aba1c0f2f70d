"""What some providers want and refresher cannot do yet: a closed list, each word explained.

A provider whose entry names one of them does not work, and ``refresher check`` says so. Who
builds one takes its word away, here and from the entries.
"""

from collections.abc import Mapping

NEEDS: Mapping[str, str] = {
    "json_body": "token requests whose parameters are a JSON object",
    "refresh_url": "refreshes at another URL than the exchange of a code",
    "get_method": "token requests by GET",
    "extra_headers": "headers of its own on token requests",
    "renamed_client_id": "another name for the parameter client_id",
    "renamed_code": "another name for the parameter code, at the token endpoint or the callback",
    "second_token": "the tokens of a second grant in one answer",
    "secret_as_user": "the secret as the user of HTTP Basic, without a client_id",
    "live_token_renewal": "renewal by an access token that is still alive; no refresh token",
    "no_expiry": "access tokens without an end, which nothing renews",
    "renewal_on_use": "renewal only for tokens that are used, since unused ones fill a quota",
    "answer_without_token": "refreshes that prolong the same tokens and answer with none",
    "client_credentials": "the client_credentials grant (RFC 6749 4.4)",
    "device_authorization": "logins by a code on another device (RFC 8628)",
}
"""By the word that stands in ``needs`` of an entry."""
