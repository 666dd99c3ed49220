"""`python -m apps`: the one entry to every application."""

import sys

from apps.common.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
