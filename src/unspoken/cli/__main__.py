"""`python -m unspoken.cli` is `unspoken`."""

from unspoken.cli import main

raise SystemExit(main())
