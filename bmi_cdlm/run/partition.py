"""Partitions of a domain that separate processes run: independent basins, and tributaries cut off a large one.

A tributary that is cut off stays in the downstream partition as a boundary reach, at its place among the children of
the reach below: its hydrograph, every routing sub-step of it, is given instead of routed, and summed in the order of
the whole. So the bits are those of one process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from bmi_cdlm.domain.domain import Cells, Domain, Gauges, Reaches, places, take_reaches
from bmi_cdlm.domain.network import accumulate_downstream
from bmi_cdlm.kernels.groups import Links, LstmNetwork, PetNetwork
from bmi_cdlm.model.lstm import Lstm
from bmi_cdlm.names.errors import StateError
from bmi_cdlm.names.parameters import TRAVEL_TIME, grid_of

CUT_SHARE = 64
"""A tributary smaller than a partition by this factor is not worth being cut off: its outflow is handed on in full."""
OUTFLOW, STEADY = "outflow.f64", "steady.npy"
"""Files in the folder of a partition that has run: float64[sub-step, outlet] without a header, and float64[outlet]."""


class Partition(NamedTuple):
    """A piece of a domain that one process runs.

    reaches : int64[], its own, rising; boundary : int64[], reaches of other partitions that drain into it;
    outlets : int64[], its reaches that drain into other partitions; after : numbers of the partitions that come first.
    """

    reaches: np.ndarray
    boundary: np.ndarray
    outlets: np.ndarray
    after: tuple[int, ...]


def partition(downstream: np.ndarray, count: int) -> list[Partition]:
    """Cut a network in routing order into about `count` partitions, upstream ones first.

    No partition has more than a share of 1 / count of all reaches, but for what cannot be cut. Basins larger than that
    lose their largest tributaries of up to a share; what is left of each, main rivers with small tributaries, comes
    after those and is cut in the same way if it is still too large.
    """
    n = downstream.size
    limit = -(-n // max(1, count))
    least = max(1, limit // CUT_SHARE)
    reaches = accumulate_downstream(downstream, np.ones(n)).astype(np.int64)
    below = np.where(downstream >= 0, downstream, 0)
    owner, number = np.full(n, -1), -1
    while (owner < 0).any():
        size = accumulate_downstream(downstream, owner < 0).astype(np.int64)
        small = size <= limit
        top = (owner < 0) & small & ((downstream < 0) | ~small[below])
        cut = np.flatnonzero(top & (downstream >= 0) & (size >= least))
        whole = np.flatnonzero((owner < 0) & (downstream < 0) & (small if cut.size else True))
        for roots in (cut, whole):
            filled = limit
            for root in roots.tolist():
                if filled + size[root] > limit:
                    number, filled = number + 1, 0
                own = owner[root + 1 - reaches[root] : root + 1]
                own[own < 0] = number
                filled += size[root]
    return _collect(downstream, owner, number + 1)


def _collect(downstream: np.ndarray, owner: np.ndarray, count: int) -> list[Partition]:
    crossing = np.flatnonzero((downstream >= 0) & (owner != owner[downstream]))
    source, target = owner[crossing], owner[downstream[crossing]]
    reaches = np.split(np.argsort(owner, kind="stable"), np.cumsum(np.bincount(owner, minlength=count))[:-1])
    return [
        Partition(
            own, crossing[target == k], crossing[source == k], tuple(np.unique(source[target == k]).tolist())
        )
        for k, own in enumerate(reaches)
    ]


class Source(NamedTuple):
    """A partition above. number; width : its outlets; column : int64[boundary], among them, or -1 where of another."""

    number: int
    width: int
    column: np.ndarray


class Part(NamedTuple):
    """All that a process needs of a partition but the forcing.

    domain : Domain, the boundary reaches among its reaches; parameters, pet, elevation : of its cells and reaches;
    cells, reaches : int64[], places in the whole domain; n_cells : of the whole domain; boundary, outlets : int64[],
    places in `domain`; sources : whose outflow comes in; lstm : with what attributes of its cells add.
    """

    domain: Domain
    parameters: dict[str, np.ndarray]
    pet: PetNetwork | None
    elevation: np.ndarray
    cells: np.ndarray
    reaches: np.ndarray
    n_cells: int
    boundary: np.ndarray
    outlets: np.ndarray
    sources: tuple[Source, ...]
    lstm: Lstm | None = None


def make_part(
    domain: Domain, parameters: Mapping[str, np.ndarray], pet: PetNetwork | None, elevation: np.ndarray,
    partitions: Sequence[Partition], number: int, more_cells: np.ndarray, lstm: Lstm | None = None,
) -> Part:
    """Take a partition out of a domain and its parameters; `more_cells` come with it whether they drain or not."""
    own = partitions[number]
    reaches = np.union1d(own.reaches, own.boundary)
    part, cells = take_reaches(domain, reaches, own.boundary, more_cells)
    if not cells.size:  # a model has at least one
        part, cells = take_reaches(domain, reaches, own.boundary, np.zeros(1, np.int64))
    place = {"cell": cells, "reach": reaches}
    boundary = np.searchsorted(reaches, own.boundary)
    taken = {
        name: values[..., place[grid_of(name)]]
        for name, values in parameters.items()
    }
    if TRAVEL_TIME in taken:
        taken[TRAVEL_TIME][boundary] = 0.0
    sources = []
    for k in own.after:
        outlets = partitions[k].outlets
        sources.append(Source(k, outlets.size, places(outlets, own.boundary)))
    return Part(
        part, taken, None if pet is None else pet._replace(static=np.ascontiguousarray(pet.static[:, cells])),
        elevation[cells], cells, reaches, domain.n_cells, boundary, np.searchsorted(reaches, own.outlets),
        tuple(sources), None if lstm is None else lstm.of_cells(cells),
    )


GROUPS: dict[str, Any] = {"cells": Cells, "reaches": Reaches, "links": Links, "gauges": Gauges}
PLAIN = ("elevation", "cells", "reaches", "n_cells", "boundary", "outlets")


def write_part(path: Path, part: Part) -> None:
    """Write a part to a file (.npz) from which `read_part` makes the same."""
    groups = {name: getattr(part.domain, name) for name in GROUPS}
    if part.pet is not None:
        groups["pet"] = part.pet
    if part.lstm is not None:
        groups["lstm"] = part.lstm.network
    arrays: dict[str, Any] = {
        f"{name}.{field}": np.asarray(value, str if isinstance(value, list) else None)
        for name, g in groups.items() for field, value in g._asdict().items()
    }
    arrays |= {f"parameter.{name}": values for name, values in part.parameters.items()}
    for name, count in part.lstm.components.items() if part.lstm is not None else ():
        arrays[f"varying.{name}"] = np.asarray(count)
    for k, source in enumerate(part.sources):
        arrays |= {f"source.{k}.{field}": np.asarray(value) for field, value in source._asdict().items()}
    arrays |= {name: np.asarray(getattr(part, name)) for name in PLAIN}
    np.savez(path, file_order=part.domain.file_order, **arrays)


def read_part(path: Path) -> Part:
    """Read what `write_part` wrote."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: _plain(file[name]) for name in file.files}

    def group(name: str, kind: Any) -> Any:
        return kind(**{field: arrays[f"{name}.{field}"] for field in kind._fields})

    return Part(
        domain=Domain(**{name: group(name, kind) for name, kind in GROUPS.items()}, file_order=arrays["file_order"]),
        parameters={n.removeprefix("parameter."): v for n, v in arrays.items() if n.startswith("parameter.")},
        pet=group("pet", PetNetwork) if "pet.static" in arrays else None,
        sources=tuple(group(f"source.{k}", Source) for k in range(sum(n.endswith(".column") for n in arrays))),
        lstm=Lstm(group("lstm", LstmNetwork), {
            n.removeprefix("varying."): count for n, count in arrays.items() if n.startswith("varying.")
        }) if "lstm.static" in arrays else None,
        **{name: arrays[name] for name in PLAIN},
    )


def _plain(values: np.ndarray) -> Any:
    """Numbers alone as such, texts as a list."""
    return values.tolist() if values.dtype.kind == "U" or not values.ndim else values


class FileExchange:
    """What a partition takes from those above it and hands on to those below, step after step, through files.

    Parameters
    ----------
    part : Part
    done : folders of the partitions above, in the order of `part.sources`
    folder : Path
        Where the own outflow goes.

    Every run of a partition draws and hands on in the same order: a steady state, if any, then all steps of spin-up
    and run from the first, in blocks of any length.
    """

    def __init__(self, part: Part, done: Sequence[Path], folder: Path) -> None:
        self.boundary, self.outlets, self.folder, self._position = part.boundary, part.outlets, folder, 0
        self._above = list(zip(part.sources, done, strict=True))
        self._series = [np.memmap(d / OUTFLOW, "<f8", "r").reshape(-1, s.width) for s, d in self._above]
        self._outflow: BinaryIO = (folder / OUTFLOW).open("wb")

    def draw(self, n: int) -> np.ndarray:
        """Hydrographs of the boundary reaches over the next n sub-steps, float64[boundary, n] [m3 s-1]."""
        flow = np.empty((self.boundary.size, n))
        first, self._position = self._position, self._position + n
        for (source, done), series in zip(self._above, self._series, strict=True):
            rows = series[first : self._position]
            if rows.shape[0] < n:
                raise StateError(
                    f"{done / OUTFLOW}: ends after {series.shape[0]} sub-steps, expected {self._position} or more. "
                    "Start the run anew."
                )
            mine = source.column >= 0
            flow[mine] = rows[:, source.column[mine]].T
        return flow

    def hand_on(self, hydrographs: np.ndarray) -> None:
        """Keep the hydrographs of the outlets, float64[outlet, sub-step] [m3 s-1]."""
        self._outflow.write(np.ascontiguousarray(hydrographs.T, "<f8").tobytes())

    def draw_steady(self) -> np.ndarray:
        """Steady discharge of the boundary reaches, float64[boundary] [m3 s-1]."""
        flow = np.empty(self.boundary.size)
        for source, done in self._above:
            mine = source.column >= 0
            flow[mine] = np.load(done / STEADY)[source.column[mine]]
        return flow

    def hand_on_steady(self, flow: np.ndarray) -> None:
        """Keep the steady discharge of the outlets, float64[outlet] [m3 s-1]."""
        np.save(self.folder / STEADY, flow)

    def __enter__(self) -> FileExchange:
        """Return the exchange itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the file of the outflow."""
        self._outflow.close()
