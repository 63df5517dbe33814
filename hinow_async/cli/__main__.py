"""`python -m hinow_async.cli`: the command where no script is installed."""

import sys

from hinow_async.cli import main

sys.exit(main())
