"""``python -m tests.boundaries``; ``run`` says what it does."""

import sys

from tests.boundaries.run import main

sys.exit(main())
