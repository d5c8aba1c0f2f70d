"""``python -m refresher``."""

from refresher.cli import main

main()
