"""What was shown at servers that others wrote: the table, and the tests that show it."""

from collections.abc import Iterator, Mapping

SERVERS = {
    "oidc-provider": "npm `oidc-provider`",
    "django-oauth-toolkit": "PyPI `django-oauth-toolkit`",
}

ROWS: Mapping[str, Mapping[str, str]] = {
    "login with PKCE, refresh, rotation, introspection, revocation": {
        "oidc-provider": "test_oidc_provider_clients.py::test_a_client_with_a_secret",
        "django-oauth-toolkit": (
            "test_django_toolkit.py::test_login_refresh_rotation_introspection_and_revocation"
        ),
    },
    "a wrong verifier and a wrong secret are refused, and told apart": {
        "oidc-provider": (
            "test_oidc_provider_clients.py::test_pkce_is_checked_and_a_wrong_secret_is_told"
        ),
        "django-oauth-toolkit": (
            "test_django_toolkit.py::test_wrong_verifiers_and_secrets_are_told_apart"
        ),
    },
    "a reused refresh token ends the grant": {
        "oidc-provider": (
            "test_oidc_provider_clients.py::test_rotation_with_reuse_detection_is_measured"
        ),
        "django-oauth-toolkit": (
            "test_django_toolkit.py::"
            "test_a_reused_refresh_token_ends_the_grant_under_reuse_protection"
        ),
    },
    "`private_key_jwt`": {
        "oidc-provider": "test_oidc_provider_clients.py::test_a_client_that_signs"
    },
    "mutual TLS, self-signed and issued": {
        "oidc-provider": "test_oidc_provider_clients.py::test_a_client_with_a_certificate"
    },
    "metadata found from the token endpoint": {
        "oidc-provider": (
            "test_oidc_provider_clients.py::test_its_metadata_are_found_from_the_token_endpoint"
        ),
        "django-oauth-toolkit": "test_django_toolkit.py::test_reuse_protection_is_measured",
    },
    "the whole daemon: published through rotations, a new login after a revocation": {
        "oidc-provider": "test_oidc_provider.py::test_tokens_stay_fresh_through_rotations",
    },
    "`providers measure` finds strict rotation": {
        "oidc-provider": (
            "test_oidc_provider_clients.py::test_rotation_with_reuse_detection_is_measured"
        ),
        "django-oauth-toolkit": "test_django_toolkit.py::test_reuse_protection_is_measured",
    },
    "`providers measure` finds a grace period": {
        "django-oauth-toolkit": "test_django_toolkit.py::test_a_grace_period_is_measured",
    },
    "`providers measure` finds that nothing rotates": {
        "oidc-provider": (
            "test_oidc_provider_clients.py::test_a_server_that_does_not_rotate_is_measured"
        ),
        "django-oauth-toolkit": (
            "test_django_toolkit.py::test_a_server_that_keeps_its_refresh_tokens_is_measured"
        ),
    },
}
"""By what is shown: of each server the test in ``tests/foreign`` that shows it."""

INDEPENDENT_HEADS = ("Shown", *SERVERS.values())


def independent_rows() -> Iterator[tuple[str, ...]]:
    """A row a capability."""
    for shown, tests in ROWS.items():
        yield (shown, *("yes" if server in tests else "" for server in SERVERS))
