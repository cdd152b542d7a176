"""Run ``python -m streamasr.cli``."""

import sys

from streamasr.cli import main

sys.exit(main())
