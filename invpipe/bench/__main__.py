"""`python -m invpipe.bench`."""

import sys

from invpipe.bench import main

sys.exit(main())
