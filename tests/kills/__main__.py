"""``python -m tests.kills``; ``run`` says what it does."""

import sys

from tests.kills.run import main

sys.exit(main())
