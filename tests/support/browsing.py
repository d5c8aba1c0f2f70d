"""A browser without a person: goes where a page leads, cookies and all.

As a program it is what a desktop opens (``BROWSER``), and imports nothing of ours.
"""

import html
import re
import ssl
import sys
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

COMMAND = f"{sys.executable} {Path(__file__).resolve()} %s"
"""For the environment variable BROWSER: it ends when its last page is there, and no earlier."""

MOST_REDIRECTS = 20
ANSWER_WITHIN = 120.0


def follow(url: str, *, until: str | None = None) -> str:
    """Where URL leads at last.

    Args:
        until: the beginning of an address that is not visited any more.
    """
    opener = urllib.request.build_opener(
        urllib.request.HTTPCookieProcessor(CookieJar()),
        # Servers of tests make their own certificates.
        urllib.request.HTTPSHandler(context=ssl._create_unverified_context()),  # noqa: S323
        _Staying,
    )
    for _ in range(MOST_REDIRECTS):
        if until is not None and url.startswith(until):
            return url
        with opener.open(url, timeout=ANSWER_WITHIN) as answer:
            if answer.status not in {301, 302, 303, 307}:
                assert until is None, answer.read()
                return url
            url = urljoin(url, answer.headers["Location"])
    raise AssertionError("redirected for ever")


class _Staying(urllib.request.HTTPErrorProcessor):
    """Hands every answer over as it is."""

    def http_response(self, _: object, response: Any) -> Any:
        return response

    def https_response(self, _: object, response: Any) -> Any:
        return response


def main(page: str) -> None:
    """Open PAGE, the address of a file that leads on, as ``refresher login`` makes it."""
    text = Path(unquote(urlsplit(page).path)).read_text()
    found = re.search('http-equiv="refresh" content="0; url=(.*?)"', text)
    assert found is not None
    follow(html.unescape(found[1]))


if __name__ == "__main__":
    main(sys.argv[1])
