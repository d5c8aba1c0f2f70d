"""``django-oauth-toolkit`` as an authorization server, for one confidential client.

``python server.py FOLDER`` reads FOLDER/options.json: ``port``, ``client_id``,
``client_secret``, ``redirect_uri`` and ``oauth2``, keys of the toolkit's own settings. It
prints ``listening`` when it does. Whoever comes is logged in, and has consented. What it
knows is in a database in FOLDER; it imports nothing of ours.
"""

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import django
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

NAME = "server"
"""Of this module, as Django is told it."""

OWNER = "owner"


def log_in_whoever_comes(
    answer: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware: every browser is the owner's."""

    def answered(request: HttpRequest) -> HttpResponse:
        from django.contrib.auth import get_user_model  # noqa: PLC0415  Django is set up late

        if request.path.startswith("/o/authorize"):
            request.user = get_user_model().objects.get(username=OWNER)
        return answer(request)

    return answered


urlpatterns: list[Any] = []


def set_up(folder: Path, oauth2: dict[str, Any]) -> None:
    """Configure Django with a database in FOLDER."""
    settings.configure(
        SECRET_KEY="tests only",
        ALLOWED_HOSTS=["127.0.0.1"],
        ROOT_URLCONF=NAME,
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "oauth2_provider",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            f"{NAME}.log_in_whoever_comes",
        ],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": folder / "db.sqlite3",
                # Writers that read first wait for each other instead of failing.
                "OPTIONS": {"timeout": 60, "transaction_mode": "IMMEDIATE"},
            }
        },
        USE_TZ=True,
        # The usual one takes a second for each request with the client's secret.
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        OAUTH2_PROVIDER=oauth2,
    )
    django.setup()
    urlpatterns.append(path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")))
    call_command("migrate", verbosity=0)


def register(options: dict[str, Any]) -> None:
    """The owner, and the client that needs no consent."""
    from django.contrib.auth import get_user_model  # noqa: PLC0415  Django is set up late
    from oauth2_provider.models import get_application_model  # noqa: PLC0415  same

    owner = get_user_model().objects.create_user(OWNER)
    get_application_model().objects.create(
        name="foreign",
        user=owner,
        client_id=options["client_id"],
        client_secret=options["client_secret"],
        client_type="confidential",
        authorization_grant_type="authorization-code",
        redirect_uris=options["redirect_uri"],
        skip_authorization=True,
        algorithm=options.get("algorithm", ""),
    )


class Server(ThreadingMixIn, WSGIServer):
    """Answers each connection in a thread of its own."""

    daemon_threads = True


class Handler(WSGIRequestHandler):
    """Writes no log, which would hold codes."""

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def main(folder: Path) -> None:
    """Serve until killed."""
    options = json.loads((folder / "options.json").read_text())
    set_up(folder, options["oauth2"])
    register(options)
    server = make_server("127.0.0.1", options["port"], get_wsgi_application(), Server, Handler)
    print("listening", flush=True)  # noqa: T201  who started it waits for this
    threading.Thread(target=server.serve_forever, daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    # Django finds middleware and routes by the name of their module.
    sys.modules[NAME] = sys.modules["__main__"]
    main(Path(sys.argv[1]))
