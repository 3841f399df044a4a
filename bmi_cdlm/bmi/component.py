"""BmiCdlm: the CSDMS Basic Model Interface (2.0) of the model. Names meet arrays here; no science."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from bmipy import Bmi

from bmi_cdlm.bmi.arguments import BmiValueError, check_dest, check_indices, check_source
from bmi_cdlm.bmi.grids import IDS, BmiGrid, make_grids
from bmi_cdlm.bmi.identity import NAMES as IDENTITIES
from bmi_cdlm.bmi.identity import identity
from bmi_cdlm.bmi.lattice import Lattice, Spread, make_lattice
from bmi_cdlm.bmi.serialization import NAMES as SERIALIZED
from bmi_cdlm.bmi.serialization import Serialization
from bmi_cdlm.model.adjustment import Bounds, adjust, adjustable_parameters, bounds, is_adjustable
from bmi_cdlm.names.entry import Variable, plural
from bmi_cdlm.names.errors import ClockError, ConfigError, LifecycleError, UnknownNameError, nearest
from bmi_cdlm.names.host_variables import MASSES
from bmi_cdlm.names.variables import VARIABLES
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.coupled import check_values
from bmi_cdlm.run.rehearsal import announced
from bmi_cdlm.run.simulation import Simulation
from bmi_cdlm.run.stepping import Stepper


class Published(NamedTuple):
    """A variable as BMI shows it: registry entry, units, and its live array."""

    variable: Variable
    units: str
    values: np.ndarray


class Listed(NamedTuple):
    """Names of inputs and of outputs, as frameworks ask for them again and again."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def listed(variables: Mapping[str, Variable]) -> Listed:
    """Names of the variables by their roles; parameters are not among them."""
    return Listed(
        tuple(name for name, v in variables.items() if v.role == "input"),
        tuple(name for name, v in variables.items() if v.role not in ("input", "parameter")),
    )


ALL_NAMES = listed({v.name: v for v in VARIABLES})
"""Of all that a configuration may publish."""


class BmiCdlm(Bmi):
    """The model as a BMI component.

    Values are float64, one-dimensional and live: `get_value_ptr` gives the array itself, which stays the same
    from initialize to finalize. Inputs hold what the next update will use. BMI writes no files. States that have bounds
    and parameters can be set too; parameters, under their registry names, are not listed among the inputs, since a
    framework would look for who provides them.
    """

    METADATA = "meta"
    """Where pymt finds the plugin's metadata, beside this module."""

    def __init__(self) -> None:
        self._stepper: Stepper | None = None
        self._variables: dict[str, Published] = {}
        self._listed = ALL_NAMES
        self._unpublished: dict[str, Published] = {}
        self._serialization: Serialization | None = None
        self._grids: dict[int, BmiGrid] = {}
        self._lattice: Lattice | None = None
        self._on_cells: dict[str, np.ndarray] = {}
        self._spread: dict[str, Spread] = {}

    def __getstate__(self) -> object:
        """Let only a component that holds nothing be copied or pickled: two of one model would move each other."""
        if self._stepper is not None:
            raise LifecycleError(
                "the component is initialized, and holds open files and threads: it can be neither copied nor pickled. "
                "Initialize another, and hand its state over (serialization_state)."
            )
        return super().__getstate__()

    # ---- control -----------------------------------------------------------------------------------------

    def initialize(self, config_file: str) -> None:
        """Read a configuration and all it names, and compile what will run; on an error nothing is changed."""
        if not isinstance(config_file, str | os.PathLike):
            raise ConfigError(f"initialize({config_file!r}): expected the path of a YAML configuration file.")
        with announced():
            stepper = Stepper(Simulation(load_config(config_file), ready=True))
        simulation = stepper.simulation
        model = simulation.model
        lattice = None
        if simulation.config.grid_profile == "rectilinear":
            lattice = make_lattice(model.domain.cells)
        self.finalize()
        inputs = stepper.inputs
        self._variables = {
            inputs.published[v.short].name: Published(v, inputs.published[v.short].units, inputs.held[v.short])
            for v in inputs.variables
        }
        coupled = simulation.coupled
        self._variables |= {v.name: Published(v, v.units, coupled.held[v.short]) for v in coupled.variables}
        for v in model.outputs:
            if model.size_of(v.grid):
                self._variables[v.name] = Published(v, v.units, model.live[v.short])
        if stepper.sums is not None:
            self._variables |= {v.name: Published(v, v.units, values) for v, values in stepper.sums.published}
        for v in adjustable_parameters(model):
            shown = model.parameters[v.short].view()
            shown.flags.writeable = False  # a write must go through set_value, to take effect as a whole
            self._variables[v.name] = Published(v, v.units, shown)
        if lattice is not None:
            self._spread_cells(lattice)
        self._unpublished = {v.name: Published(v, v.units, model.masses[v.short]) for v in MASSES}
        self._listed = listed({name: p.variable for name, p in self._variables.items()})
        self._serialization = Serialization(simulation.to_bytes, simulation.take_over)
        self._stepper = stepper

    def _spread_cells(self, lattice: Lattice) -> None:
        """Let values on cells be rows and columns of a regular grid."""
        self._lattice = lattice
        nowhere = np.broadcast_to(np.float64(np.nan), lattice.cell.shape)  # of that size, but takes no memory
        for name, p in self._variables.items():
            if p.variable.grid == "cell":
                self._on_cells[name] = p.values
                self._variables[name] = p._replace(values=nowhere)

    def update(self) -> None:
        """Advance by one model step."""
        stepper = self._running()
        stepper.advance_until(stepper.now + stepper.step)
        if self._spread:
            self._refresh()

    def update_until(self, time: float) -> None:
        """Advance to a time [s since the start]; parts of a step follow the configured policy."""
        stepper = self._running()
        # Asking numpy costs more than the rest of this call.
        if not isinstance(time, (float, int)) and (np.ndim(time) or np.asarray(time).dtype.kind not in "fiu"):
            raise ClockError(f"update_until({time!r}): expected a number of seconds since the start.")
        stepper.advance_until(float(time))
        if self._spread:
            self._refresh()

    def _refresh(self) -> None:
        """Bring arrays that a caller got a pointer to up to date, where they are copies."""
        for spread in self._spread.values():
            spread.refresh()

    def finalize(self) -> None:
        """Close files and threads; initialize may follow."""
        if self._stepper is not None:
            self._stepper.simulation.close()
        self._stepper = self._serialization = None
        self._variables, self._unpublished, self._grids = {}, {}, {}
        self._listed = ALL_NAMES
        self._lattice, self._on_cells, self._spread = None, {}, {}

    # ---- model and variables -----------------------------------------------------------------------------

    def get_component_name(self) -> str:
        """Name of the component."""
        return "CDLM"

    def get_input_item_count(self) -> int:
        """Number of inputs."""
        return len(self.get_input_var_names())

    def get_output_item_count(self) -> int:
        """Number of outputs."""
        return len(self.get_output_var_names())

    def get_input_var_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the inputs; before initialize, all that a configuration may publish."""
        return self._listed.inputs

    def get_output_var_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the outputs; before initialize, all that a configuration may publish."""
        return self._listed.outputs

    def get_var_grid(self, name: str) -> int:
        """Id of the variable's grid: 0 cells, 1 reaches, 2 gauges, 3 domain, 10 links of cells and reaches, 11 reaches
        whose discharge is given. A vector has the values of all sub-steps on the grid of its places."""
        return IDS[self._find(name).variable.grid]

    def get_var_type(self, name: str) -> str:
        """Data type of the values: float64, of ids and indices int64, of text uint8."""
        return str(self._find(name).values.dtype)

    def get_var_units(self, name: str) -> str:
        """Units, in UDUNITS spelling."""
        return self._find(name).units

    def get_var_itemsize(self, name: str) -> int:
        """Bytes per value."""
        return int(self._find(name).values.itemsize)

    def get_var_nbytes(self, name: str) -> int:
        """Bytes of all values."""
        return int(self._find(name).values.nbytes)

    def get_var_location(self, name: str) -> str:
        """Where on its grid the variable lies: node or face; totals of the domain at its one node."""
        return self._grid(self.get_var_grid(name)).location

    # ---- time --------------------------------------------------------------------------------------------

    def get_current_time(self) -> float:
        """Seconds since the start, a running step included."""
        return float(self._running().now)

    def get_start_time(self) -> float:
        """Start of the run: 0."""
        self._running()
        return 0.0

    def get_end_time(self) -> float:
        """Seconds from the start to the end of the configured run."""
        return float(self._running().end)

    def get_time_units(self) -> str:
        """Units of all times: `s`, or with `time_units: since` the start of the run too."""
        config = None if self._stepper is None else self._stepper.simulation.config
        if config is None or config.time_units == "s":
            return "s"
        return f"seconds since {str(config.start).replace('T', ' ')}"

    def get_time_step(self) -> float:
        """Model step [s]."""
        return float(self._running().step)

    # ---- values ------------------------------------------------------------------------------------------

    def get_value(self, name: str, dest: np.ndarray) -> np.ndarray:
        """Copy all values into `dest`, which is returned."""
        values = self._read(name)
        check_dest(name, dest, values.size, values.dtype)
        dest.flat[:] = values
        return dest

    def get_value_ptr(self, name: str) -> np.ndarray:
        """The live array itself, float64[n]: it changes with every update."""
        return self._read(name, live=True)

    def get_value_at_indices(self, name: str, dest: np.ndarray, inds: np.ndarray) -> np.ndarray:
        """Copy the values at some places into `dest`, which is returned."""
        values = self._read(name)
        places = check_indices(name, inds, values.size)
        check_dest(name, dest, places.size, values.dtype)
        dest.flat[:] = values[places]
        return dest

    def set_value(self, name: str, src: np.ndarray) -> None:
        """Set all values of an input, a state or a parameter: copied, and used by the next update."""
        if self._serialization is not None and isinstance(name, str) and name in SERIALIZED:
            self._serialization.set(name, src)
        else:
            found = self._writable(name)
            source = check_source(name, src, found.values.size)
            if name in self._on_cells:
                assert self._lattice is not None
                source = source[self._lattice.place]
            self._set(name, found, slice(None), source)
        if self._spread:
            self._refresh()

    def set_value_at_indices(self, name: str, inds: np.ndarray, src: np.ndarray) -> None:
        """Set the values of an input, a state or a parameter at some places."""
        found = self._writable(name)
        places = check_indices(name, inds, found.values.size)
        source = check_source(name, src, places.size)
        if name in self._on_cells:
            places = self._cells_at(name, places)
        self._set(name, found, places, source)
        if self._spread:
            self._refresh()

    def _set(self, name: str, found: Published, places: np.ndarray | slice, values: np.ndarray) -> None:
        """Set values at places of the model's own array."""
        target = self._on_cells.get(name, found.values)
        if found.variable.role == "input" and found.variable.part != "coupling":
            target[places] = values
            return
        simulation = self._running().simulation
        where = np.arange(values.size) if isinstance(places, slice) else places
        if found.variable.role == "input":
            check_values(simulation.model.domain, found.variable.short, where, values)
            target[places] = values
            return
        adjust(simulation.model, found.variable, where, values)
        simulation.end_call()  # the masses follow

    def _cells_at(self, name: str, places: np.ndarray) -> np.ndarray:
        """Cells at places of the regular grid; a place without one is refused."""
        assert self._lattice is not None
        cells = self._lattice.cell[places]
        if (cells < 0).any():
            place = int(places[np.flatnonzero(cells < 0)[0]])
            row, column = divmod(place, self._lattice.x.size)
            raise BmiValueError(
                f"'{name}': there is no cell at index {place}, {self._lattice.x[column]:.6g} degrees east and "
                f"{self._lattice.y[row]:.6g} north. Values there are NaN; set those of cells only."
            )
        return cells

    def get_value_bounds(self, name: str) -> Bounds:
        """Least and greatest value that may be set, float64[n] each; not a part of BMI."""
        found, stepper = self._writable(name), self._running()
        if found.variable.part == "coupling":
            assert found.variable.bounds is not None
            return Bounds(*(np.full(found.values.size, limit) for limit in found.variable.bounds))
        if found.variable.role == "input":
            return Bounds(*(np.full(found.values.size, limit) for limit in stepper.inputs.bounds(found.variable.short)))
        limits = bounds(stepper.simulation.model, found.variable)
        if name not in self._on_cells:
            return limits
        assert self._lattice is not None
        return Bounds(*(Spread(limit, self._lattice).refresh() for limit in limits))

    def get_parameter_names(self) -> tuple[str, ...]:
        """Names of the parameters that this run reads; not a part of BMI."""
        self._running()
        return tuple(name for name, p in self._variables.items() if p.variable.role == "parameter")

    def get_identity_names(self) -> tuple[str, ...]:
        """Names of the variables that say what the places of the grids are; not a part of BMI."""
        domain = self._running().simulation.model.domain
        return tuple(name for name, v in IDENTITIES.items() if identity(domain, v) is not None)

    # ---- grids -------------------------------------------------------------------------------------------

    def get_grid_rank(self, grid: int) -> int:
        """Number of dimensions of the grid's space; 0 for a scalar."""
        return self._grid(grid).rank

    def get_grid_size(self, grid: int) -> int:
        """Number of nodes; 1 for a scalar."""
        return self._grid(grid).size

    def get_grid_type(self, grid: int) -> str:
        """Type of the grid."""
        return self._grid(grid).type

    def get_grid_shape(self, grid: int, shape: np.ndarray) -> np.ndarray:
        """Rows and columns of a rectilinear grid; refused for others."""
        found = self._grid(grid)
        if found.type != "rectilinear":
            raise self._not_structured(grid, "shape")
        return self._fill(grid, "shape", np.array([found.y.size, found.x.size], np.int64), shape)

    def get_grid_spacing(self, grid: int, spacing: np.ndarray) -> np.ndarray:
        """Refused: no grid here is uniform."""
        raise self._not_structured(grid, "spacing")

    def get_grid_origin(self, grid: int, origin: np.ndarray) -> np.ndarray:
        """Refused: no grid here is uniform."""
        raise self._not_structured(grid, "origin")

    def get_grid_x(self, grid: int, x: np.ndarray) -> np.ndarray:
        """Longitude of every node, of a rectilinear grid of every column [degrees east]."""
        return self._fill(grid, "x", self._grid(grid).x, x)

    def get_grid_y(self, grid: int, y: np.ndarray) -> np.ndarray:
        """Latitude of every node, of a rectilinear grid of every row [degrees north]."""
        return self._fill(grid, "y", self._grid(grid).y, y)

    def get_grid_z(self, grid: int, z: np.ndarray) -> np.ndarray:
        """Height of every node: the grids are flat, 0."""
        return self._fill(grid, "z", np.zeros(0 if self._grid(grid).rank == 0 else self._grid(grid).size), z)

    def get_grid_node_count(self, grid: int) -> int:
        """Number of nodes; 1 for a scalar."""
        return self.get_grid_size(grid)

    def get_grid_edge_count(self, grid: int) -> int:
        """Number of edges."""
        return int(self._grid(grid).edge_nodes.size // 2)

    def get_grid_face_count(self, grid: int) -> int:
        """Number of faces."""
        return int(self._grid(grid).nodes_per_face.size)

    def get_grid_edge_nodes(self, grid: int, edge_nodes: np.ndarray) -> np.ndarray:
        """Both nodes of every edge; of a reach's edge, the upper one first."""
        return self._fill(grid, "edge_nodes", self._grid(grid).edge_nodes, edge_nodes)

    def get_grid_face_edges(self, grid: int, face_edges: np.ndarray) -> np.ndarray:
        """Edges of every face, one face after the other."""
        return self._fill(grid, "face_edges", self._grid(grid).face_edges, face_edges)

    def get_grid_face_nodes(self, grid: int, face_nodes: np.ndarray) -> np.ndarray:
        """Nodes of every face, one face after the other, counter-clockwise."""
        return self._fill(grid, "face_nodes", self._grid(grid).face_nodes, face_nodes)

    def get_grid_nodes_per_face(self, grid: int, nodes_per_face: np.ndarray) -> np.ndarray:
        """Number of nodes of every face."""
        return self._fill(grid, "nodes_per_face", self._grid(grid).nodes_per_face, nodes_per_face)

    # ---- lookups -----------------------------------------------------------------------------------------

    def _running(self) -> Stepper:
        if self._stepper is None:
            raise LifecycleError("the component is not initialized. Call initialize(config_file) first.")
        return self._stepper

    def _find(self, name: str) -> Published:
        try:
            found = self._variables.get(name)  # none before initialize
            if found is not None:
                return found
            self._running()
            if name in self._unpublished:
                return self._unpublished[name]
            if name in IDENTITIES:
                return self._identify(name)
            assert self._serialization is not None
            return Published(SERIALIZED[name], SERIALIZED[name].units, self._serialization.value(name))
        except UnknownNameError:
            raise
        except (KeyError, TypeError):
            raise UnknownNameError(
                f"there is no variable '{name}'.{nearest(name, self._variables)} "
                "Names are those of get_input_var_names and get_output_var_names."
            ) from None

    def _identify(self, name: str) -> Published:
        """A variable that says what places are, made when first asked for."""
        v = IDENTITIES[name]
        values = identity(self._running().simulation.model.domain, v)
        if values is None:
            if v.grid == "boundary":
                raise UnknownNameError(f"'{name}': no reach of this domain was cut off. `cdlm subset --below` does.")
            raise UnknownNameError(f"'{name}': the ids are no whole numbers. Take '{name}_text'.")
        if v.grid == "cell" and self._lattice is not None:
            values = self._lattice.spread(values)
        found = self._unpublished[name] = Published(v, v.units, values)
        return found

    def _read(self, name: str, *, live: bool = False) -> np.ndarray:
        """The array of a variable that is about to be read; live: and is to follow the model from then on."""
        found = self._find(name)
        if name in SERIALIZED:
            assert self._serialization is not None
            return self._serialization.read(name)
        if name not in self._on_cells:
            return found.values
        assert self._lattice is not None
        spread = self._spread.get(name) or Spread(self._on_cells[name], self._lattice)
        if live:
            self._spread[name] = spread
        return spread.refresh()

    def _writable(self, name: str) -> Published:
        found = self._find(name)
        if found.variable.role != "input" and not is_adjustable(found.variable):
            raise BmiValueError(
                f"'{name}' is an output that the model derives ({found.variable.role}), expected an input, a state "
                "with bounds, or a parameter. Set one of those."
            )
        return found

    def _grid(self, grid: int) -> BmiGrid:
        if not self._grids:  # made when first asked for: many hosts never do
            simulation = self._running().simulation
            self._grids = make_grids(
                simulation.model.domain, simulation.config.grid_profile, self._lattice
            )
        if not isinstance(grid, int | np.integer) or isinstance(grid, bool) or grid not in self._grids:
            known = ", ".join(f"{i} {plural(n)}" for n, i in IDS.items())
            raise UnknownNameError(f"there is no grid {grid!r}. Grids: {known}.")
        return self._grids[grid]

    def _fill(self, grid: int, what: str, values: np.ndarray, dest: np.ndarray) -> np.ndarray:
        check_dest(f"{what} of grid {grid}", dest, values.size, values.dtype)
        dest.flat[:] = values
        return dest

    def _not_structured(self, grid: int, what: str) -> Exception:
        kind = self._grid(grid).type
        return NotImplementedError(f"grid {grid} is of type '{kind}', which has no {what}. Use the node coordinates.")
