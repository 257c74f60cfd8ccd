"""``python -m meinheld app:app`` serves for development; ``python -m meinheld top`` looks at a
fleet."""

import sys

if __name__ == "__main__":
    if sys.argv[1:2] == ["top"]:
        from meinheld import top

        sys.exit(top.main())
    from meinheld import develop

    sys.exit(develop.main())
