"""Rewrite what the READMEs have from the code: ``python -m tests.pages``, a minute and a half.

A sample output is replaced only if more than its times and random parts has changed.
"""

from tests.pages.practice import samples, shape
from tests.pages.reading import PAGES, README, rewritten, shown, with_samples

DEMO_SECONDS = 60
"""As long as the reader's own: the numbers of the page are those of a whole run."""

if __name__ == "__main__":
    for page in PAGES:
        page.write_text(rewritten(page.read_text()))
    text = README.read_text()
    before = shown(text)
    today = samples(demo_seconds=DEMO_SECONDS)
    changed = {name: said for name, said in today.items() if shape(said) != shape(before[name])}
    README.write_text(with_samples(text, changed))
