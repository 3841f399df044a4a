"""The reference of the keys of a training, rendered from the code that defines them."""

from __future__ import annotations

from bmi_cdlm.reference import key_table
from cdlm_training.config import TrainConfig
from cdlm_training.experiment.config import ExperimentConfig
from cdlm_training.map_fit.config import MapFitConfig
from cdlm_training.terms import LossWeights, Pretraining, Regularisation, WindowShape

HEAD = """# Training

`cdlm-train CONFIG` trains the networks that turn attributes of cells and reaches into parameters, and the day's
forcing into a correction of PET, end to end on discharge at gauges: through runoff and routing, by the adjoints of
the kernels that the model itself steps. The checkpoint it writes is what `parameters:` of a run, or
`cdlm run --parameters`, takes; reading it needs no torch.

CONFIG is the configuration of a run (see [cfg/README.md](../cfg/README.md)) with these keys below `training:`;
`cfg/lez.yaml` and `cfg/grand.yaml` are examples. `device: cuda` takes networks and kernels to a CUDA device, one for
each process (`pip install "bmi-cdlm[train,gpu]"`; `gpu-cu13` in place of `gpu` brings NVIDIA's compiler along, where
CUDA 13 is not installed). `--resume` goes on after the last epoch, to the same weights as an unbroken run. The folder
`NAME_training` beside the checkpoint holds the log (CSV and TensorBoard), the configuration, the environment, what was
found (`findings.txt`), the last checkpoint and the state to resume from.

What starts a run is what the training assumed: windows begin `warm_up` steps earlier, from a cold start. Where a record
is too short for that, `learn_start` learns how full the stores are at `start`, through the same mapping; the checkpoint
keeps it, and a run that begins at that time starts so. After a training its discharge over the first window is compared
with that of a run; a difference is told, and so are parameters that learned against a bound of their range (`ranges`
widens it), and how far several fits of one lie apart (`restarts`).

[RESULTS.md](RESULTS.md) has scores, an ablation and a twin experiment on the Grand River, and scores of HBV and GR4J on
241 basins, what routing is worth around Lake Erie, and a regional model there beside the published ones.

## What is made small

The terms of `loss` are of each gauge, so much of each as its weight says: squared errors or KGE, of the flow or of a
transform of it that looks at low flow, signatures of the period and of floods. What a gauge costs is their sum;
`gauge_weights` says how gauges come together: by weights, or by a quartile or the median of their costs (an update then
runs forward once more, to rank them).

```yaml
training:
  gauge_weights: lower_quartile
  loss: {nse: 1, nse_log: 0.3, signatures: {Crc: 0.1}, events: {Epf: 0.1, Erc: 0.1}}
```

Signatures are those of `cdlm evaluate --signatures` and `--events`, by the same equations; a training takes those with
a slope almost everywhere, not the lag, nor what goes through the filter of baseflow. Floods are found once, in the
observed discharge of the training period, and count where they lie in a window whole.

## How well parameters are known

`loss: {nse: 0, gaussian: 1}` makes the likelihood of normal errors large whose standard deviation is s0 + s1 Q; s0 and
s1 of every gauge are learned too, and stand in the record of the checkpoint (or in the attributes of a parameter
file). For one parameter set (`mapping: uniform`), `posterior: laplace` then inverts the second derivatives of that
likelihood: values, standard deviations and correlations are told and written to `NAME_posterior.csv` beside the
output. It is the posterior of independent errors, which those of an hourly flow are not: with them, it is too narrow.

`cdlm-train multiset CONFIG` follows no slope: it draws parameter sets over the ranges (a Latin hypercube), and takes
their mean weighted by exp(-2^alpha (J / J_min - 1)^2), J being the loss of a set, with the alpha at the corner of the
L-curve of what the mean costs and how far it has moved. It tells how far the sets that count lie apart.

## Rain and snow that gauges missed

`precipitation: undercatch` puts factors on rain and on snow before any snow and runoff process, as `runoff:
hbv_undercatch` does within HBV. They are parameters as others are: what a generator reads makes them differ (with
elevation among the attributes they change with height, with a number of the weather product from product to product),
`ranges` bounds them, and `loss.pull` draws them to where they start, which is 1:

```yaml
precipitation: undercatch
training:
  ranges: {rainfall_correction_factor: [0.9, 1.1], snowfall_correction_factor: [0.8, 1.5]}
  loss: {nse: 1, pull: {rainfall_correction_factor: 0.1, snowfall_correction_factor: 0.02}}
```

A factor on rain, one on demand and an exchange with the ground all change how much runs off: discharge alone tells
them apart by their seasons only. What the factors are worth where they were tried is in RESULTS.md.

## From a region to a few gauges

`start_from: CHECKPOINT` begins where another training ended, with `gauges: [...]` on a few gauges, say; `loss.prior`
pulls the parameters towards those of that checkpoint, and `frozen: [pet, cell.0]` leaves weights as they are. The
generator has to be described as it was there; scales of attributes and forcing are those of the checkpoint.

## Every cell its own parameters

`mapping: distributed` fits a value of every parameter in every cell (of the celerity: in every reach), by LBFGS in
float64 unless told otherwise, from `starts`, or from whatever generator `start_from` names: the region says where the
fit begins, the gauges assimilate from there. A field is no generator: it reads no attributes, holds in this domain
alone, and its `output` is a parameter file (`.nc`), which `parameters:` of a run takes; what it was made of stands in
the attributes of the file.

```yaml
training:
  output: local.nc
  mapping: distributed
  start_from: regional.safetensors
  regularisation: {prior: 1, smoothing: 100}
```

There are more values than gauges can tell apart. `regularisation` holds them where they began (`prior`) and lets
neighbours change alike (`smoothing`; `hard_smoothing` makes neighbours alike): with z = z0 at the start and p =
sigmoid(z), the place of a parameter in its range, sums over parameters of the means over places of (z - z0)^2, and of
the squared Laplacian of p(z) - p(z0), or of p(z), over cells that share an edge and reaches that drain into each
other. They count `weight` times their sum beside the loss: a number, or `fast` (two fits: what one without them gains
over what it costs in them), or `lcurve` (six fits and a plot, `lcurve.png` in the folder of the training). Maps of the
parameters, `parameters.png`, stand there too.

## Labels: from gauges elsewhere to places without

`cdlm-train labels CONFIG --model gr4j` fits the runoff process of the run (and snow, and the celerity where
`learn_routing` is on) to every gauge of the training by itself: LBFGS, five starts, the loss of `training`, over the
first three quarters of its period; the last quarter says what a label is worth. Gauges upstream come first and keep
their parameters, so that a gauge's label is that of its own area. `--model gr2m`, `dwbm` and `abcd` are monthly models
that are run here alone, fitted by differential evolution to the monthly runoff of own areas; several `--model` join
their storage capacities, by exp of the mean of the logarithm, weighted by max(KGE, 0). `--per cell --runoff
FILE:VARIABLE` fits cells to a gridded runoff product, without routing. `labels.nc` has parameters, their spread over
the restarts, the KGE of the unseen quarter, and what it was made of; fits of gauges that are done are not done again.

`training.pretrain` lets a generator learn from them before it learns from discharge. What it gives on a label's area is
set against the label: the mean over the area, of the logarithm for parameters that move by it, on the scale without
bounds. A label weighs by its KGE and by how alike its restarts are. How many updates it takes, folds say that are held
out: blocks of 3 degrees or nested gauges, for a site's neighbours would give it away. The training then goes on end to
end; `NAME_training/pretrained.safetensors` is what came of the labels, an ordinary checkpoint, from which a training in
another domain may go on with `start_from` (its attributes have to be there, in the same units).

```yaml
training:
  pretrain: {labels: labels.nc, mask_below: 0.3}
```

`python examples/few_gauges.py` compares trainings on a few gauges with and without such a start.

## The cells around a cell

`mapping: resnet` reads a window of cells on their grid, by convolutions; what is outside of the domain is marked. Only
torch knows it: `output` is a parameter file, and beside it stands the network (`.safetensors`), which `start_from`
takes, and `cdlm-train apply NETWORK CONFIG --to parameters.nc` evaluates on another domain. `mapping: residual_mlp` has
layers as `hidden` says, each of which but the first adds to what enters it, and sees one cell: the difference is what
neighbours are worth. It is an ordinary checkpoint.

## Every cell to a map

`cdlm-train fit-maps CONFIG` needs no gauge: it fits two parameters of every cell, one of the volume (`pet_factor`, or
`exchange_coefficient` of GR4J) and one of storage (`routing_capacity`), to the mean runoff and the baseflow index of
maps that `cdlm signatures` has made; the others are those of `parameters`, the prior. Cells are run alone, without
rivers, in blocks that `memory` of the run holds (16 series of its steps per cell), by Levenberg and Marquardt with a
damping per cell and slopes from the adjoints; what was done before a kill is not done again. The parameter file is what
`parameters:` of a run takes; `NAME_cells.nc` says what each cell came to, and where a parameter is at its bound.

```yaml
map_fit:
  maps: gripe/gripe_maps.nc
  output: gripe/fitted.nc
  left_out: {frac_water: 0.5}   # lakes keep the prior
  folds: true                   # of every fold too: NAME_unseen.nc has each gauge by the fold that never saw it
  prior_of_folds: gripe/experiment/runs/without_pet_factor/folds/fold{fold}/seed1/trained.safetensors
```

The prior says much: from parameters that vary, fitted cells were better at unseen gauges than from lumped ones (see
RESULTS.md). Maps are to be of the years that count (`signatures.period`; `period` less `warm_up`); others are told.
`NAME_unseen.nc` is for `against:` of an experiment with the same `folds`; maps that saw a gauge of their fold are
refused. `rivers: true` then fits the celerity by itself, gauge by gauge from upstream to downstream, to the correlation
of hydrographs, at the gauges that the maps were learned from; reaches that drain to none have the median.

## Ensembles

`cdlm-train ensemble OUTPUT CHECKPOINT...` puts checkpoints, such as those of several `seed`s, into one file. A run with
it (`parameters: OUTPUT`) runs every member, from forcing to discharge, and writes the mean to `output` and each member
beside it (`run.member1.nc`); `cdlm evaluate` then tells the continuous ranked probability score, and how many
observations lie within the range of the members. `member: 2` runs one of them, also through BMI. A run with `restart:
state.nc` leaves a state of every member (`state.member1.nc`), and `initial_state: state.nc` goes on from these.

## Experiments

`cdlm-train experiment CONFIG` trains every variant with every seed on every split, and writes one table, with baselines
beside: the keys below `experiment`, further down, say what. A split is of gauges: none held out (`temporal`), folds of
independent basins, regions, upstream or downstream ones; every training is scored in the training and in the test
period, at gauges that it was fitted to and at those it never saw. Epochs are chosen at fitted gauges before the test
period. The folder `output` gets `results.md` (medians with bootstrap intervals, and the paired difference from the
first line), `report.html` (one page that needs no server: who saw what, tables, distributions beside the baselines,
maps of scores and parameters, hydrographs, curves of training, attributes outside the training range, fingerprints;
`cdlm-train report FOLDER` writes it anew), `scores.csv` (every score of every gauge), the discharge of every variant
at all gauges (NetCDF; each gauge from the split that holds it out), and every training with its checkpoint. What was
done is not done again, a training that was killed goes on; `processes` are several at a time.

```yaml
experiment:
  output: lab
  test: [2013-01-01, 2015-01-01]
  designs: [temporal, folds]
  variants:
    mlp: {}
    linear: {training: {mapping: linear}}
  seeds: [1, 2, 3]
  ensembles: {all: [mlp, linear]}
  baselines: [lumped, similar, climatology]
  against: {LSTM: lstm.nc}
```

Of several seeds of a variant the mean discharge is scored too, and of several variants in `ensembles`, which may be of
unlike processes: such a mean is a file of discharge (`discharge_all_temporal.nc`), and no checkpoint.

Beside `temporal`, whose trainings see all gauges, a design that holds gauges out has a table more: the scores of every
region, of the same gauges where they were fitted, and the difference gauge by gauge.

`--design`, `--seed` and `--variant` do a part of what the file names, whose tables say that it is one:
`cdlm-train experiment cfg/mopex.yaml --design temporal --design regions --seed 1`. Its trainings count for the whole.

Several CONFIG in one command are several samples of basins, one after the other; `cfg/camels_fr.yaml`,
`cfg/camels_us.yaml` and `cfg/camels_gb.yaml` leave out every basin once, or five folds.

`cdlm-train compare A B` puts the experiments in two folders side by side, at the gauges that both have: medians of
each, and of the difference gauge by gauge, with bootstrap intervals, on the screen and as a page. It takes the first
ensemble of each, or its first variant, or `--model` and `--other` as their tables name them; A and B may be one folder.

A map as a constraint (`loss.mean_runoff` with `mean_runoff_attribute: mean_runoff`, and `loss.baseflow_index`
likewise, laid into the domain by `cdlm signatures --to-domain`) holds all cells, also those that drain to no gauge of
the training, which are run for it by themselves, without rivers. It must not have seen what a split holds out: each
takes the map of the fold that did not, `mean_runoff_foldK`, and a split that every map has seen is refused. Each window
is compared with the map: take windows as long as the training, or years that differ are made alike.

What a training begins with must not have seen it either: a checkpoint in `start_from` that was fitted to a gauge which
a split holds out (`{design}` and `{split}` in the path name one of each), or labels or a checkpoint of the test years
at these gauges, are refused before anything is trained; labels of held-out gauges, and of those below them, are left
out. Fits to single gauges take the terms of the loss that a gauge has by itself.

`cdlm-train validate CONFIG --design temporal|spatial|spatio-temporal|downstream-only|upstream-only` (several may be
given) is the same engine by the names of the literature, with one table, `validation.md`: other years; other gauges, in
folds; both; fitted to the lowest gauges and validated upstream, and the other way round.

`cdlm-train similarity CONFIG --to FILE` carries the fits to single gauges, the donors of `similar`, to every cell: the
mean of the parameters of its `donors` nearest in standardised attributes (`similarity`), before bounds, by the inverse
square of the distance; of a reach that of its cells. `--mean simulations` writes the discharge of every gauge instead,
as the mean of those that its donors' parameters give, never from one that is nested with it.

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
    return "\n".join([
        HEAD, *key_table(TrainConfig), "## Keys of `loss`\n", *key_table(LossWeights), "## Keys of `regularisation`\n",
        *key_table(Regularisation), "## Keys of `pretrain`\n", *key_table(Pretraining),
        "## Keys of `resnet`\n", *key_table(WindowShape), "## Keys of `experiment`\n",
        *key_table(ExperimentConfig), "## Keys of `map_fit`\n", *key_table(MapFitConfig),
    ])
