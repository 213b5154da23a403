"""`python -m citysort_dagster.cli` is the command `citysort`."""

import sys

from citysort_dagster.cli import main

sys.exit(main())
