"""The reference of the keys of a training, rendered from the code that defines them."""

from __future__ import annotations

from bmi_cdlm.reference import key_table
from cdlm_training.config import LossWeights, TrainConfig

HEAD = """# Training

`cdlm-train CONFIG` trains the networks that turn attributes of cells and reaches into parameters, and the day's
forcing into a correction of PET, end to end on discharge at gauges: through runoff and routing, by the adjoints of
the kernels that the model itself steps. The checkpoint it writes is what `parameters:` of a run, or
`cdlm run --parameters`, takes; reading it needs no torch.

CONFIG is the configuration of a run (see [cfg/README.md](../cfg/README.md)) with these keys below `training:`;
`cfg/lez.yaml` and `cfg/grand.yaml` are examples. Several processes: `torchrun --nproc-per-node 2 -m cdlm_training
CONFIG`; windows and independent basins are dealt out, and the gradient is that of one process. `device: cuda` takes
networks and kernels to a CUDA device, one for each process (`pip install "bmi-cdlm[train,gpu]"`). `--resume` goes on
after the last epoch, to the same weights as an unbroken run. The folder `NAME_training` beside the checkpoint holds
the log (CSV and TensorBoard), the configuration, the environment, the last checkpoint and the state to resume from.
[RESULTS.md](RESULTS.md) has scores, an ablation and a twin experiment on the Grand River.

## Keys
"""


def render() -> str:
    """Return the reference as Markdown."""
    return "\n".join([HEAD, *key_table(TrainConfig), "## Keys of `loss`\n", *key_table(LossWeights)])
