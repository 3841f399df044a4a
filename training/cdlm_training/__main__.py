"""So that torchrun can start it: `torchrun --nproc-per-node 2 -m cdlm_training cfg/grand.yaml`."""

from cdlm_training.cli import main

main()
