"""One call that builds, checks and times an epoch of a country's training: `python benchmarks/gpu/epoch.py [--help]`.

An epoch is one pass over two years of 600,000 cells and all reaches of one river, as `cdlm-train` does it on
`device: cuda` in float32: parameters and PET factor from networks, snow, runoff, routing, the loss at 1,000 gauges, the
gradient of every weight, a step of AdamW. Forcing is on the device before. First a training on the device is compared
with one on the host. Needs torch built for CUDA and numba-cuda, and refuses without.

`--simulated`, under NUMBA_ENABLE_CUDASIM=1 and with small numbers, goes through all of it on the host; its times mean
nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import torch
from measure import DIFFERENT_CELLS, GAUGES, N_SUB, ROOT, make_domain, needs_device, random_weather

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.generator.generator import Inputs, describe_forcing
from bmi_cdlm.generator.specification import Attribute, GeneratorSpec, NetworkSpec, PetSpec, Target
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.buffers import FACTOR
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.catalogue import choose
from cdlm_training.dataset import Window
from cdlm_training.device import choose_device, make_operators
from cdlm_training.generator import Generator
from cdlm_training.loss import nse_term
from cdlm_training.simulate import Chain, Part

N_ATTRIBUTES = 8
HIDDEN, PET_HIDDEN = (32, 32), (8,)
RUN = SimpleNamespace(
    chain=choose("cemaneige"), snow="cemaneige", runoff="gr4j", components=1, time_step=DAY, routing_step=HOUR
)


def make_spec(forcing: dict[str, np.ndarray]) -> GeneratorSpec:
    """What `cdlm-train` makes of its defaults: snow, routing and PET factor learned."""
    attributes = tuple(Attribute(f"a{k}", "1", "none", 1.0, 0.0, 1.0, -5.0, 5.0) for k in range(N_ATTRIBUTES))

    def network(grid: str, left_out: tuple[str, ...]) -> NetworkSpec:
        own = (p for process in RUN.chain.processes for p in process.parameters if p.grid == grid and not p.optional)
        targets = tuple(Target(p.name, *p.range_at(DAY), p.scale) for p in own if p.name not in left_out)
        return NetworkSpec("mlp", attributes, HIDDEN, "tanh", targets)

    pet = PetSpec(describe_forcing(forcing), attributes, PET_HIDDEN, 0.3, 2.0, "unknown")
    return GeneratorSpec(network("cell", ()), network("reach", ("weighting",)), pet, DAY, HOUR, "cemaneige")


class Training:
    """A training of one part, all cells and reaches of a domain, over one window: the whole record."""

    def __init__(self, domain: Domain, n_days: int) -> None:
        n, rng = domain.n_cells, np.random.default_rng(4)
        self.device = choose_device("cuda")
        length = np.full(domain.n_reaches, 1000.0)
        domain = domain._replace(reaches=domain.reaches._replace(length=length))
        weather = random_weather(5, n_days, min(n, DIFFERENT_CELLS))
        column = np.arange(n) % weather.precipitation.shape[1]
        season = (8.0 - 12.0 * np.cos(2 * np.pi * np.arange(n_days) / 365.25)[:, None]).astype(np.float32)
        few = {
            "precipitation": weather.precipitation,
            "potential_evapotranspiration": weather.potential_evapotranspiration,
            "air_temperature": season + rng.normal(0, 2, (1, weather.precipitation.shape[1])).astype(np.float32),
        }
        spec = make_spec(few)
        self.generator = Generator(spec, 1, torch.float32).to(self.device)
        dataset = SimpleNamespace(
            forcing={name: np.ascontiguousarray(values[:, column]) for name, values in few.items()},
            day_of_year=np.arange(n_days, dtype=np.float32) % 365 + 1,
            config=SimpleNamespace(precision="float32", draws_parts=False),
            run=RUN, of_domain={},
        )
        drawn = (rng.normal(size=(k, N_ATTRIBUTES)) for k in (n, domain.n_reaches, n))
        self.chain = Chain(dataset, self.generator, Inputs(*drawn))
        at = np.sort(rng.choice(domain.n_reaches, min(GAUGES, domain.n_reaches), replace=False))
        workers = Workers(1)
        operators = make_operators(RUN, domain, np.float32, "cuda", workers, (FACTOR,))
        everything = np.arange(n), np.arange(domain.n_reaches)
        self.part = Part(domain, operators, np.arange(at.size), at, *everything, 1.0, workers)
        self.window = Window(np.arange(n_days), n_days - n_days // 2)
        self.observed = torch.rand(self.window.counted, at.size, device=self.device)
        self.optimizer = torch.optim.AdamW(self.generator.parameters())

    def epoch(self) -> dict[str, float]:
        """One epoch; seconds on the wall of its parts, and its loss."""
        began = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        simulated = self.chain(self.part, self.window)
        loss = nse_term(simulated.discharge, self.observed, torch.ones_like(self.observed[0])).mean()
        self._wait()
        forward = time.perf_counter()
        loss.backward()
        self._wait()
        backward = time.perf_counter()
        self.optimizer.step()
        self._wait()
        end = time.perf_counter()
        gradients = [w.grad for w in self.generator.parameters()]
        assert all(g is not None and bool(torch.isfinite(g).all()) for g in gradients)
        seconds = {"forward": forward - began, "backward": backward - forward, "epoch": end - began}
        return seconds | {"loss": float(loss.detach())}

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def check() -> None:
    """A training on the device beside one on the host, in a process of its own."""
    tests = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", str(ROOT / "tests/training/test_device.py")]
    if subprocess.run(tests, cwd=ROOT, check=False).returncode:
        sys.exit("training on the device does not agree with the host (above): nothing is timed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=600_000)
    parser.add_argument("--reaches", type=int, default=600_001, help="5400001 is the density of a national network")
    parser.add_argument("--days", type=int, default=730)
    parser.add_argument("--epochs", type=int, default=3, help="timed, after one that compiles")
    parser.add_argument("--simulated", action="store_true", help="small numbers, on numba's simulator")
    options = parser.parse_args()
    needs_device(options.simulated)
    if not options.simulated:
        check()
    training = Training(make_domain(options.cells, options.reaches), options.days)
    epochs = [training.epoch() for _ in range(options.epochs + 1)][1:]
    of = {name: float(np.median([e[name] for e in epochs])) for name in epochs[0]}
    domain = training.part.domain
    cell_days, reach_steps = options.days * domain.n_cells, options.days * N_SUB * domain.n_reaches
    print(f"{domain.n_cells} cells, {domain.n_reaches} reaches, {options.days} days, {N_SUB} sub-steps a day, float32")
    print(f"epoch {of['epoch']:.2f} s: forward {of['forward']:.2f} s, backward {of['backward']:.2f} s; "
          f"{cell_days / of['epoch'] / 1e6:.1f} million cell-days/s with {reach_steps / of['epoch'] / 1e6:.0f} million "
          "reach-steps/s")
    print(f"loss {epochs[0]['loss']:.4g} -> {epochs[-1]['loss']:.4g}")
    if training.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated()
        print(f"{torch.cuda.get_device_name()}: at most {peak / 1e9:.1f} GB of tensors, "
              f"{peak / (cell_days + options.days * domain.n_reaches):.1f} bytes per cell-day and reach-day")


if __name__ == "__main__":
    main()
