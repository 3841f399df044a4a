"""The mapping `resnet`: parameters of a cell from the attributes of the cells around it, by a residual network.

torch alone knows it: the runtime takes what it gives, a parameter file. Windows of k by k cells on the grid of the
cells, the cell in the middle; what lies outside of the domain is 0, and a channel says so.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from bmi_cdlm.domain.domain import Cells
from bmi_cdlm.generator.specification import GeneratorSpec, NetworkSpec, network_inputs
from bmi_cdlm.names.errors import ConfigError
from cdlm_training.generator import START_SPREAD, Generator, Layer, Layers, StaticNetwork
from cdlm_training.terms import WindowShape

GROUPS = 4
"""Of channels that are normalised together."""
OFF_GRID = 0.25
"""How far a cell may be off its place, as a share of its side: a projected grid bends in degrees."""
CHUNK = 4096
"""Windows that go through the network at once where no slope is asked for."""


def grid_places(cells: Cells) -> np.ndarray:
    """Row and column of every cell on a grid, int64[cell, 2], from 0.

    The two edges at the first corner of the cells, as they are on the whole, span the grid.

    Raises
    ------
    ConfigError
        Cells that lie on no grid, or two on one place.
    """
    lon = cells.lon + 360.0 * np.round((cells.lon[0] - cells.lon) / 360.0)
    edges = [
        np.array([np.median(corner[:, k] - corner[:, 0]) for corner in (cells.corner_lon, cells.corner_lat)])
        for k in (1, 3)
    ]
    basis = np.stack(edges, axis=1)
    if abs(np.linalg.det(basis)) < 1e-12:
        raise ConfigError("mapping: resnet needs cells on a grid, and theirs have no extent. Use another mapping.")
    middle = np.stack([lon - np.median(lon), cells.lat - np.median(cells.lat)])
    at = np.linalg.solve(basis, middle).T
    at -= at[len(at) // 2]
    at -= np.median(at - np.round(at), axis=0)
    places = np.round(at).astype(np.int64)
    off = np.abs(at - places).max(axis=1)
    twice = np.unique(places, axis=0).shape[0] < places.shape[0]
    if off.max() > OFF_GRID or twice:
        worst = cells.id[int(off.argmax())]
        what = "two cells on one place" if twice else f"cell {worst} {off.max():.2f} of a side off its place"
        raise ConfigError(
            f"mapping: resnet needs cells on a regular grid, and there are {what}. Use another mapping, such as "
            "residual_mlp."
        )
    return places - places.min(axis=0)


def window_index(places: np.ndarray, window: int) -> np.ndarray:
    """The cells in the window of every cell, int64[cell, window, window]; the number of cells where there is none."""
    n, margin = places.shape[0], window // 2
    grid = np.full(places.max(axis=0) + 1 + 2 * margin, n, np.int64)
    grid[tuple((places + margin).T)] = np.arange(n)
    rows, columns = (places[:, k, None] + np.arange(window) for k in range(2))
    found: np.ndarray = grid[rows[:, :, None], columns[:, None, :]]
    return found


class Block(nn.Module):
    """Two convolutions of normalised channels, added to what enters: levels pass by the normalisation.

    GroupNorm looks at one window alone; statistics of a batch would let a cell depend on its company.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.before, self.between = (nn.GroupNorm(GROUPS, width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """x + conv(relu(norm(conv(relu(norm(x)))))), [n, width, window, window]."""
        more = self.first(torch.relu(self.before(x)))
        out: Tensor = x + self.second(torch.relu(self.between(more)))
        return out


class WindowNetwork(StaticNetwork):
    """From windows to z: convolutions, blocks, then the middle beside the mean over the window, and a dense layer.

    Raw attributes are the places of cells, [n, 1]; their values are held, float[cell + 1, channel]: standardised over
    the domain of the training, zeros outside, and a channel of ones within.
    """

    def __init__(self, spec: NetworkSpec, shape: WindowShape, draw: torch.Generator, seed: int) -> None:
        Layers.__init__(self, [Layer(2 * shape.width, spec.sizes[-1], START_SPREAD, draw)])
        self.spec, self.shape, self.dropout, self.dropped = spec, shape, 0.0, None
        with torch.no_grad():
            self.each[-1].bias.add_(torch.tensor([z for t in spec.targets for z in t.starts], dtype=torch.float64))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.stem = nn.Conv2d(len(spec.attributes) + 1, shape.width, 3, padding=1)
            self.blocks = nn.Sequential(*(Block(shape.width) for _ in range(shape.blocks)))
        self.values, self.index = torch.zeros(1), torch.zeros(1, dtype=torch.int64)

    def look_at(self, cells: Cells, raw: np.ndarray) -> None:
        """Take the cells of a domain, whose raw attributes are float64[cell, attribute]."""
        inside = network_inputs(self.spec, raw)
        n = inside.shape[0]
        table = np.zeros((n + 1, inside.shape[1] + 1))
        table[:n, :-1], table[:n, -1] = inside, 1.0
        self.values = torch.from_numpy(table)
        self.index = torch.from_numpy(window_index(grid_places(cells), self.shape.window))

    def free(self, attributes: Tensor | np.ndarray) -> Tensor:
        """Return z [n, output] of some places."""
        places = torch.as_tensor(attributes)[:, 0].long()
        if torch.is_grad_enabled():
            return self._free(places)
        return torch.cat([self._free(part) for part in places.split(CHUNK)])

    def _free(self, places: Tensor) -> Tensor:
        x = self.values[self.index[places]].permute(0, 3, 1, 2).to(self.stem.weight)
        x = torch.relu(self.blocks(self.stem(x)))
        middle = self.shape.window // 2
        return self.each[-1](torch.cat([x[:, :, middle, middle], x.mean(dim=(2, 3))], 1).double())


class Windowed(Generator):
    """A generator whose network of cells sees windows; that of reaches is the one of the specification."""

    def __init__(self, spec: GeneratorSpec, shape: WindowShape, seed: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(spec, seed, dtype)
        self.cell = WindowNetwork(spec.cell, shape, torch.Generator().manual_seed(seed), seed)
        self.shape = shape
        self.to(dtype)

    def look_at(self, cells: Cells, raw: np.ndarray) -> None:
        """Take the cells of a domain, whose raw attributes are float64[cell, attribute]."""
        assert isinstance(self.cell, WindowNetwork)
        self.cell.look_at(cells, raw)
