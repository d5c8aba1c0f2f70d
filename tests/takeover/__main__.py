"""``python -m tests.takeover``; ``run`` says what it does."""

import sys

from tests.takeover.run import main

sys.exit(main())
