"""The JWT bearer grant: a token for an assertion that the client signs (RFC 7523 2.1)."""

from dataclasses import replace
from urllib.parse import quote

from refresher.domain.clients import SUBJECT, Client
from refresher.domain.quirks import AssertionPlacement, ClientAuthentication
from refresher.domain.renewal import Terms
from refresher.oauth.client_credentials import of_client, wanted
from refresher.oauth.requests import TokenRequest

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def request(client: Client, terms: Terms, now: float, *, scope: tuple[str, ...]) -> TokenRequest:
    """The request of CLIENT that presents an assertion made NOW: no server sees one twice.

    Raises:
        KeyUnusable: the client's private key cannot sign.
    """
    # Whoever signs nothing does without the library: it takes longer to load than we do.
    from refresher.oauth.assertion import bearer_assertion  # noqa: PLC0415

    assertion = bearer_assertion(client, terms, now, scope=scope)
    if client.quirks.assertion_placement is AssertionPlacement.BEARER:
        asked = of_client(client, {}, authenticated=False)
        bearer = {"Authorization": f"Bearer {assertion}"}
        asked = replace(asked, headers={**asked.headers, **bearer})
    else:
        sent = {"grant_type": GRANT_TYPE, "assertion": assertion, **wanted(client, terms, scope)}
        # RFC 7521 4.1: the assertion may be all that proves the client.
        is_told = client.quirks.client_authentication is not ClientAuthentication.NONE
        asked = of_client(client, sent, authenticated=is_told)
    subject = quote(terms.subject or "", safe="")
    return replace(asked, endpoint=asked.endpoint.replace(SUBJECT, subject))
