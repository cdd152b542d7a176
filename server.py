"""``python server.py …`` is ``streamasr serve …``."""

import sys

from streamasr.cli import main

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
