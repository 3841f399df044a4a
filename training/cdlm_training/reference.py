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
`cfg/lez.yaml` and `cfg/grand.yaml` are examples. `device: cuda` takes networks and kernels to a CUDA device, one for
each process (`pip install "bmi-cdlm[train,gpu]"`; `gpu-cu13` in place of `gpu` brings NVIDIA's compiler along, where
CUDA 13 is not installed). `--resume` goes on after the last epoch, to the same weights as an unbroken run. The folder
`NAME_training` beside the checkpoint holds the log (CSV and TensorBoard), the configuration, the environment, the last
checkpoint and the state to resume from.
[RESULTS.md](RESULTS.md) has scores, an ablation and a twin experiment on the Grand River, scores of HBV and GR4J on 241
basins, and what routing is worth around Lake Erie.

## Several processes, several nodes

On one machine, `torchrun --nproc-per-node 2 -m cdlm_training CONFIG`. On several, the same command on each:

```
torchrun --nnodes 4 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 -m cdlm_training CONFIG
```

HOST is one of the nodes, or use `srun torchrun ...` under Slurm with as many tasks as nodes. All nodes see the same
files; the first process alone writes, validates and logs. On a cluster with several networks name one for both
libraries: `GLOO_SOCKET_IFNAME=eth0 NCCL_SOCKET_IFNAME=eth0`. Give each process its cores: `threads` times processes.

The domain is sharded by sub-network, what drains to the lowest gauges: they are independent, and every window of every
one is dealt to one process, the largest first, to whom has the least so far. A process places on its device the forcing
and the network of what falls to it. Gradients are summed in float64, so the weights are those of one process but for
rounding. One sub-network is never split: where a single basin holds most of a domain, set `windows_per_update` to a
multiple of the number of processes, which deals its windows out, or `gauges_per_update`, which draws smaller
sub-networks. Every process reads the forcing of the whole domain into its memory; devices hold their own share only.

## The settings of dHBV

Trained on many basins, the published models draw pairs: a basin and a year of its own. With 531 basins these keys give
their epochs and losses (`rmse_comb` of dHBV 1.0 and 2.0, `nse_batch` of 1.1p); here a pair is a gauge with all that
drains to it, so that the loss is at gauges behind the routing, nested ones among them.

```yaml
training:
  pairs_per_update: 100
  updates: cover            # 341 of them
  epochs: 100
  window: 365
  warm_up: 365
  optimizer: adadelta       # learning_rate: 1
  final_learning_rate: 1
  weight_decay: 0
  dropout: 0.5              # of the mapping; `hidden` has 7 layers of 4096 units in dHBV 2.0
  loss: {nse: 0, rmse_comb: 1}
```

A warm-up that would begin before the record cycles through its first year; theirs draw no such windows.

Weights of their networks, where you have them, become a checkpoint: `cdlm-train CONFIG --weights FILE --statistics
FILE.json`. FILE is safetensors or a state_dict of torch, read as tensors alone. CONFIG says what they do not: the order
of the attributes (`cell_attributes`), what the LSTM gives (`varying`), the process and its `components`. The JSON has
[mean, std] of every attribute and of the forcing by our names. `cdlm import-dhbv` takes parameters that were calculated
already.

## Parameters that vary from day to day

`varying: [recharge_shape, evaporation_shape, quickflow_rate]` takes these from the network of attributes and gives them
to an LSTM, which reads the forcing of the step and the same attributes (these enter as a bias, summed once). It begins
with nothing remembered, so that it needs its `warm_up`, as the stores do. At run time it is a kernel of ours without
torch; what it remembers is in the state and in restart files. It costs more than the model itself: 64 units take 28
times the time of HBV with four sets, 16 units 3.9 times ([benchmarks](../benchmarks/README.md)). Sets of parameters
(`components`) cost far less: begin with those.

## Keys
"""


def render() -> str:
    """Return the reference as Markdown."""
    return "\n".join([HEAD, *key_table(TrainConfig), "## Keys of `loss`\n", *key_table(LossWeights)])
