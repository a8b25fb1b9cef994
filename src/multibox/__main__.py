"""``python -m multibox``: the command line, for launchers that start modules (torchrun)."""

import sys

from multibox.cli import main

if __name__ == "__main__":
    sys.exit(main())
