"""`python -m cacheproxy` and the `cacheproxy` command."""

from __future__ import annotations

from cacheproxy.cli.main import main

if __name__ == "__main__":
    main()
