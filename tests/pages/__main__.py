"""Rewrite the parts of the READMEs that come from the code: ``python -m tests.pages``."""

from tests.pages.reading import PAGES, rewritten

if __name__ == "__main__":
    for page in PAGES:
        page.write_text(rewritten(page.read_text()))
