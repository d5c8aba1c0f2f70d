"""What a server's metadata promise: RFC 8414, and OpenID Connect Discovery beside it."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from refresher.domain.clients import Client
from refresher.errors import AuthorizationFailed
from refresher.oauth.documents import read_fields
from refresher.oauth.patience import Patience
from refresher.oauth.token_endpoint import TokenEndpoint
from refresher.oauth.transport import Reply

METADATA_DEADLINE = 5.0
"""Seconds a server may take to show its metadata; a code that waits for them lives a minute."""

PROMISE = "authorization_response_iss_parameter_supported"


async def promises_issuer(endpoint: TokenEndpoint, client: Client) -> bool:
    """Whether the server of CLIENT says that its redirects carry ``iss`` (RFC 9207 3).

    A server without metadata promises nothing, and neither does a client without ``issuer``.

    Raises:
        AuthorizationFailed: nobody can tell now, or the metadata are those of another issuer.
    """
    issuer = client.endpoints.issuer
    if issuer is None:
        return False
    for url in places(issuer):
        reply = await endpoint.get(client, url, patience=Patience(METADATA_DEADLINE))
        if not isinstance(reply, Reply) or reply.status >= 500 or reply.broken is not None:  # noqa: PLR2004  the class of status codes
            raise AuthorizationFailed(
                f"the metadata of {issuer} cannot be read now, so nobody knows whether the "
                "answer lacks its `iss`: start the login again"
            )
        fields = read_fields(reply.body) if reply.status == 200 else None  # noqa: PLR2004  OK
        if fields is None:
            continue
        if fields.get("issuer") != issuer:
            raise AuthorizationFailed(
                f"the metadata of {issuer} name another issuer: write `issuer` of client "
                f"{client.name} exactly as they do"
            )
        return fields.get(PROMISE) is True
    return False


def places(issuer: str) -> Iterator[str]:
    """Where the metadata of ISSUER are (RFC 8414 3.1, OpenID Connect Discovery 4)."""
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    yield parts._replace(path=f"/.well-known/oauth-authorization-server{path}").geturl()
    yield parts._replace(path=f"{path}/.well-known/openid-configuration").geturl()
