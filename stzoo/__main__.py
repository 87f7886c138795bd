"""``python -m stzoo``."""

import sys

from stzoo.cli import main

sys.exit(main())
