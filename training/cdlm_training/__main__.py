"""So that torchrun can start it: `torchrun --nproc-per-node 2 -m cdlm_training cfg/grand.yaml`."""

import os

from cdlm_training.cli import end_process, main

if int(os.environ.get("WORLD_SIZE", "1")) == 1:
    main()
try:
    main()
except SystemExit as end:
    end_process(end.code if isinstance(end.code, int) else int(end.code is not None))
