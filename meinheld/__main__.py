"""``python -m meinheld``: commands beside the server."""

import sys

from meinheld import top

if __name__ == "__main__":
    sys.exit(top.main())
