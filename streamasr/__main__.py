"""Run ``python -m streamasr``, the same as ``streamasr``; ``torchrun -m`` needs it."""

import sys

from streamasr.cli import main

sys.exit(main())
