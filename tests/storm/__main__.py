"""``python -m tests.storm``; ``run`` says what it does."""

import sys

from tests.storm.run import main

sys.exit(main())
