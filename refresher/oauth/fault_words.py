"""What kept a server from being asked, in words for a person."""

WORDS = {
    "dns": "its host name is not found",
    "refused": "nothing listens there",
    "connect_timeout": "no connection within 5 s",
    "disconnected": "the connection is closed at once",
    "proxy": "the proxy does not let it through",
    "ca_bundle": "the ca_bundle cannot be read",
    "tls": "TLS could not be agreed on",
    "tls_certificate": "its TLS certificate is not accepted",
    "tls_certificate_expired": "its TLS certificate has expired",
    "tls_certificate_untrusted": "its TLS certificate is of an authority unknown here",
    "tls_certificate_self_signed": "its TLS certificate is self-signed",
    "tls_certificate_hostname": "its TLS certificate is for another host",
    "tls_to_plain_port": "the port speaks plain HTTP",
    "plain_to_tls_port": "the port speaks TLS",
    "timeout": "no answer in time",
}
"""Reasons of ``transport.faults`` as a person reads them."""
