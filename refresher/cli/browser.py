"""Opens a browser at an address that other users of this machine must not see."""

import os
import tempfile
import threading
import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import escape
from pathlib import Path

from refresher.errors import RefresherError
from refresher.settings.commands import clean_own_environment

_PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>refresher</title>'
    '<meta name="referrer" content="no-referrer">'
    '<meta http-equiv="refresh" content="0; url={url}">'
    '<p><a href="{url}">Go on to the authorization</a></p></html>'
)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[None]:
    """Open a browser at URL; what leads it there is gone when the block ends.

    A command line can be read by every user of the machine, and whatever opens a browser is
    given its address there. So it is given the address of a page that leads on, in a file
    that nobody else can read.

    Raises:
        RefresherError: the page cannot be written.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="refresher-login-", ignore_cleanup_errors=True)
    except OSError as error:
        raise _unwritable(error) from error
    with folder as name:
        page = Path(name) / "login.html"
        try:
            descriptor = os.open(page, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(_PAGE.format(url=escape(url)))
        except OSError as error:
            raise _unwritable(error) from error
        clean_own_environment()  # a browser hands on what it gets
        # One that runs in this terminal ends when it has been told how the login ended: nobody
        # waits for it.
        threading.Thread(target=webbrowser.open, args=(page.as_uri(),), daemon=True).start()
        yield


def _unwritable(error: OSError) -> RefresherError:
    return RefresherError(
        f"the page for the browser cannot be written ({error.strerror}): use --no-browser"
    )
