"""``python -m refresher.sandbox``."""

import sys

from refresher.sandbox.process import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
