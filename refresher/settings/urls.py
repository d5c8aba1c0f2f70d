"""What is wrong with a URL of the settings, in words that do not repeat it.

Any of them may hold a password by mistake, so none is ever quoted.
"""

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from refresher.domain.redis_urls import is_many, read_many
from refresher.domain.urls import is_link_local, is_loopback, parts_of

REDIS_SCHEMES = ("redis", "rediss", "unix")
"""Those ``publication`` can open."""

TLS_OPTIONS = tuple(
    f"ssl_{option}"
    for option in (
        *("ca_certs", "ca_path", "cert_reqs", "certfile"),
        *("check_hostname", "ciphers", "keyfile", "password"),
    )
)
"""Options of a ``rediss://`` URL; redis-py would refuse others at the first connection."""

TLS_FILE_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
"""Those that name a file."""

CERT_REQS = ("required", "optional", "none")
"""Values of ``ssl_cert_reqs``."""

OFF = ("0", "F", "FALSE", "N", "NO")
"""Values of ``ssl_check_hostname`` that redis-py takes for no."""

WEAK_CIPHERS = re.compile(
    r"(?<![!\w-])(?:[aAeE]?NULL|ADH|AECDH|LOW|EXP\w*|RC4|3?DES|MD5|ALL|COMPLEMENTOF\w+)\b"
    r"|SECLEVEL=[01]",
)
"""Words of an OpenSSL cipher list that let in no encryption, no server's proof, or old ones."""


def endpoint_doubt(url: str) -> str | None:
    """What lets others have the secrets sent to the endpoint URL, which has no fault; or None."""
    parts = parts_of(url)
    if parts is None:
        return None  # a fault, and told as one
    host = parts.hostname or ""
    if is_link_local(host):
        return (
            "is a link-local address, where clouds keep their metadata service and any machine of "
            "the same network can answer: name the authorization server"
        )
    if parts.scheme == "http" and not is_loopback(host):
        return "is http:// to another host: secrets and tokens travel in the clear; use https://"
    return None


def redirect_uri_doubt(uri: str) -> str | None:
    """What lets others have the codes that are sent to URI, which has no fault; or None."""
    parts = urlsplit(uri)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        return (
            "is http:// to another host: whoever stands between reads the code (RFC 6749 3.1.2.1); "
            "register one with https://, or a loopback one"
        )
    return None


def redirect_uri_fault(uri: str) -> str | None:
    """What keeps URI from being a redirect URI (RFC 6749 3.1.2), or None."""
    parts = parts_of(uri)
    if parts is None or not parts.scheme:
        return "is not an absolute URI: write it as registered, with its scheme"
    if parts.scheme in {"http", "https"} and not parts.hostname:
        return "has no host"
    if "#" in uri:
        return "has a fragment (#...), which RFC 6749 3.1.2 forbids"
    return None


def postgresql_fault(url: str) -> str | None:
    """What keeps URL from naming a PostgreSQL database, or None; libpq reads the rest of it."""
    is_one = re.match(r"postgres(?:ql)?://", url) is not None
    if is_one and not _has_spaces(url) and parts_of(url) is not None:
        return None
    return (
        "is not a PostgreSQL URL: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with / ? # "
        "and @ percent-encoded in user and password"
    )


def postgresql_doubt(url: str) -> str | None:
    """What lets others be the database of URL, which has no fault; or None."""
    parts = urlsplit(url)
    options = parse_qs(parts.query)
    named = [*parts.netloc.rpartition("@")[2].split(","), *options.get("host", [""])[-1].split(",")]
    hosts = [re.sub(r":\d*$", "", host).strip("[]") for host in named]
    is_far = any(
        host and not host.startswith(("/", "%2F", "%2f")) and not is_loopback(host)
        for host in hosts
    )
    if is_far and options.get("sslmode", [""])[-1] != "verify-full":
        return (
            "is of another host and has no sslmode=verify-full: whoever stands between can be the "
            "database, read the password and lose what is written; add it, and sslrootcert"
        )
    return None


def redis_fault(url: str) -> str | None:
    """What keeps URL from naming Redis: one server, or several; or None."""
    if is_many(url):
        return _many_fault(url)
    parts = parts_of(url)
    if parts is None or parts.scheme not in REDIS_SCHEMES:
        return (
            "is not a Redis URL: write redis://HOST:PORT/DB, rediss:// for TLS or unix:///PATH, "
            "redis+sentinel://HOST,HOST/MASTER or redis+cluster://HOST,HOST; with / ? # and @ "
            "percent-encoded in user and password"
        )
    if parts.scheme == "unix":
        if not parts.path.strip("/"):
            return "has no path: write unix:///PATH"
    elif not parts.hostname:
        return f"has no host: write {parts.scheme}://HOST:PORT"
    for option, values in parse_qs(parts.query, keep_blank_values=True).items():
        if option == "db":
            if not re.fullmatch(r"\d{1,6}", values[-1], re.ASCII):
                return "has a db that is not a number"
        elif option not in TLS_OPTIONS:
            return f"has an option other than db, {', '.join(TLS_OPTIONS)}"
        elif parts.scheme != "rediss":
            return f"has {option}, which needs rediss://"
        elif option == "ssl_cert_reqs" and values[0] not in CERT_REQS:
            return f"has an ssl_cert_reqs other than {', '.join(CERT_REQS)}"
    return None


def _many_fault(url: str) -> str | None:
    """What keeps URL from naming several servers, or None."""
    if _has_spaces(url):
        return "has a space or a control character in it"
    try:
        many = read_many(url)
    except ValueError as error:
        return str(error)
    return redis_fault(many.url_of(*many.hosts[0]))


def redis_doubts(url: str, *, has_password: bool) -> list[str]:
    """What lets others than Redis have tokens and password; URL has no fault.

    Args:
        has_password: one stands beside URL.
    """
    if is_many(url):
        many = read_many(url)
        known = has_password or bool(many.sentinel[1])
        found = [redis_doubts(many.url_of(*host), has_password=known) for host in many.hosts]
        return list(dict.fromkeys(doubt for doubts in found for doubt in doubts))
    parts = urlsplit(url)
    options = {option: values[0] for option, values in parse_qs(parts.query).items()}
    doubts = []
    if (needed := options.get("ssl_cert_reqs", "required")) != "required":
        doubts.append(
            f"has ssl_cert_reqs={needed}: whoever stands between can be Redis, and read the "
            "password and every token; leave it out, and name the issuer with ssl_ca_certs"
        )
    if options.get("ssl_check_hostname", "true").upper() in OFF:
        doubts.append(
            "has ssl_check_hostname off: the certificate of any other host is taken too, and with "
            "it password and tokens; leave it out, and use a name that the certificate has"
        )
    if WEAK_CIPHERS.search(options.get("ssl_ciphers", "")):
        doubts.append("has ssl_ciphers that can be broken or prove no server; leave them out")
    is_open = parts.scheme == "redis" and not is_loopback(parts.hostname or "localhost")
    if is_open and (has_password or parts.password):
        doubts.append(
            "is redis:// to another host: the password and every token travel in the clear; use "
            "rediss://"
        )
    return doubts


def tls_files(url: str) -> list[tuple[str, Path]]:
    """The files that the Redis URL, which has no fault, names: each with its option."""
    options = parse_qs(urlsplit(url).query)
    return [(name, Path(options[name][0])) for name in TLS_FILE_OPTIONS if name in options]


def proxy_fault(url: str) -> str | None:
    """What keeps URL from naming an outgoing proxy, or None."""
    parts = parts_of(url)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        return "is not a proxy: write http://HOST:PORT or https://HOST:PORT"
    return None


def webhook_fault(url: str) -> str | None:
    """What keeps URL from being one that notifications are sent to, or None."""
    parts = parts_of(url)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        return "is not a URL: write https://HOST/PATH"
    if parts.username is not None:
        return "has a user or password, which is not sent: a receiver knows us by the signature"
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        return "is http:// to another host: whoever stands between reads and changes it; use https"
    return None


def proxy_doubt(url: str) -> str | None:
    """What lets others have the password of the proxy URL, which has no fault; or None."""
    parts = urlsplit(url)
    if parts.scheme == "http" and parts.password and not is_loopback(parts.hostname or ""):
        return "is http:// to another host: its password travels in the clear; use https://"
    return None


def joined(base_url: str | None, endpoint: str) -> str:
    """ENDPOINT itself, or, if it is a path, below BASE_URL."""
    if base_url is None or not endpoint.startswith("/"):
        return endpoint
    return base_url.rstrip("/") + endpoint


def _has_spaces(url: str) -> bool:
    return any(character <= " " or character == "\x7f" for character in url)
