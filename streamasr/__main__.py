"""``python -m streamasr`` is ``streamasr``; ``torchrun -m`` starts it so."""

import sys

from streamasr.cli import main

sys.exit(main())
