"""So that torchrun can start it: `torchrun --nproc-per-node 2 -m cdlm_training cfg/grand.yaml`."""

import os
import sys

from cdlm_training.cli import main

if int(os.environ.get("WORLD_SIZE", "1")) == 1:
    main()
try:
    main()
except SystemExit as end:
    # torch's threads sometimes abort a process that is tearing down, and torchrun then ends the others as failed.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))
