"""What some providers want and refresher cannot do yet: a closed list, each word explained.

A provider whose entry names one of them does not work, and ``refresher check`` says so. Who
builds one takes its word away, here and from the entries.
"""

from collections.abc import Mapping

NEEDS: Mapping[str, str] = {
    "secret_as_user": "the secret as the user of HTTP Basic, without a client_id",
    "signed_requests": "token requests that are signed with the secret",
    "renewal_on_use": "renewal only for tokens that are used, since unused ones fill a quota",
    "answer_without_token": "refreshes that prolong the same tokens and answer with none",
}
"""By the word that stands in ``needs`` of an entry."""
