"""Parameters of a dHBV run: names, bounds and units become ours, and what is other is said."""

from __future__ import annotations

import csv

import netCDF4
import numpy as np
import pytest
from cases import change_config, simulated
from click.testing import CliRunner
from training_cases import N_CELLS, write_training_case

from bmi_cdlm.cli import main
from bmi_cdlm.names.parameters import parameter

RANGES = {
    "parBETA": (1, 6), "parFC": (50, 1000), "parK0": (0.05, 0.9), "parK1": (0.01, 0.5), "parK2": (0.001, 0.2),
    "parLP": (0.2, 1), "parPERC": (0, 10), "parUZL": (0, 100), "parTT": (-2.5, 2.5), "parCFMAX": (0.5, 10),
    "parCFR": (0, 0.1), "parCWH": (0, 0.2), "parBETAET": (0.3, 5), "parC": (0, 1), "parRT": (0, 20),
    "parAC": (0, 2500), "route_a": (0, 2.9), "route_b": (0, 6.5),
}
"""Bounds of dHBV 2.0, as its configuration has them."""
IDS = [f"c{i}" for i in range(N_CELLS)]


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return write_training_case(tmp_path_factory.mktemp("case"), runoff="hbv_1_1p", components=2, pet_factor=False)


def shares(names=RANGES, components: int = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {name: rng.uniform(0, 1, (N_CELLS, components)) for name in names}


def scaled(values) -> dict[str, np.ndarray]:
    return {n: RANGES[n][0] + v * (RANGES[n][1] - RANGES[n][0]) for n, v in values.items()}


def write_table(path, values, order):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ID", "component", *values])
        for i, k in order:
            writer.writerow([IDS[i], k + 1, *(repr(float(v[i, k])) for v in values.values())])
    return path


def write_netcdf(path, values, *, times: int = 0, units: str = "", dims=("basin", "nmul")):
    with netCDF4.Dataset(path, "w") as dataset:
        for name, size in (("basin", N_CELLS), ("nmul", 2), ("time", max(times, 1))):
            dataset.createDimension(name, size)
        dataset.createVariable("divide_id", str, ("basin",))[:] = np.array(IDS[::-1], object)
        for name, v in values.items():
            whole = dims if not times else ("time", *dims)
            a = v[::-1] if dims[0] == "basin" else v[::-1].T
            variable = dataset.createVariable(name, "f8", whole)
            variable[:] = a if not times else np.stack([a * (0.6 + 0.4 * t / (times - 1)) for t in range(times)])
            if units:
                variable.units = units
    return path


def imported(case, source, *options):
    target = case.parent / "imported.nc"
    target.unlink(missing_ok=True)
    found = CliRunner().invoke(main, ["import-dhbv", str(case), str(source), "--to", str(target), *options])
    if found.exit_code:
        assert found.output, found.exception
        assert not target.exists()
        return found.output, None
    with netCDF4.Dataset(target) as dataset:
        return found.output, {n: np.asarray(v[:]) for n, v in dataset.variables.items()}


SYMBOLS = {"field_capacity": "parFC", "quickflow_rate": "parK0", "snow_threshold_temperature": "parTT",
           "unit_hydrograph_shape": "route_a", "unit_hydrograph_scale": "route_b", "capillary_rate": "parC"}


def test_a_table_of_shares_and_a_file_of_values_give_the_same_parameters(case, tmp_path):
    values = shares()
    order = [(i, k) for k in (1, 0) for i in np.random.default_rng(2).permutation(N_CELLS)]
    said, found = imported(case, write_table(tmp_path / "p.csv", values, order), "--normalised")
    assert found is not None, said
    for name, symbol in SYMBOLS.items():
        np.testing.assert_allclose(found[name], scaled(values)[symbol].T, rtol=1e-14)
        assert found[name].shape == (2, N_CELLS)
    for dims in (("basin", "nmul"), ("nmul", "basin")):
        _, other = imported(case, write_netcdf(tmp_path / "p.nc", scaled(values), dims=dims))
        assert other.keys() == found.keys()
        for name in set(found) - {"cell_id"}:
            np.testing.assert_allclose(other[name], found[name], rtol=1e-14)
    assert "not taken, for hbv_1_1p has no such parameter: parRT, parAC" in said
    assert "the default is taken: unit_hydrograph_length 15 steps" in said
    for word in ("not at 0.001 mm", "delay twice", "the same on every day here", "recharge_shape"):
        assert word in said.replace("\n", " ")


def test_it_runs_and_the_bounds_are_those_of_dhbv(case, tmp_path):
    values = shares()
    imported(case, write_netcdf(tmp_path / "p.nc", scaled(values)))
    run = change_config(case, parameters=str(case.parent / "imported.nc"), training=None)
    with simulated(run) as simulation:
        simulation.advance(simulation.read_forcing(0, 5))
        got = simulation.model.parameters["field_capacity"]
        np.testing.assert_allclose(got, scaled(values)["parFC"].T, rtol=1e-14)
    symbols = {"recharge_shape": "parBETA", "regional_exchange_area": "parAC", "baseflow_rate": "parK2", **SYMBOLS}
    for name, symbol in symbols.items():
        assert parameter(name).daily[:2] == RANGES[symbol], name


def test_of_a_series_what_is_asked_for(case, tmp_path):
    values = scaled({n: v for n, v in shares().items() if n not in ("parRT", "parAC")})
    source = write_netcdf(tmp_path / "p.nc", values, times=3)
    said, found = imported(case, source)
    assert found is None and "has 3 times" in said and "--time mean or --time last" in said.replace("\n", " ")
    _, mean = imported(case, source, "--time", "mean")
    _, last = imported(case, source, "--time", "last")
    np.testing.assert_allclose(mean["quickflow_rate"], 0.8 * values["parK0"].T, rtol=1e-14)
    np.testing.assert_allclose(last["quickflow_rate"], values["parK0"].T, rtol=1e-14)


def test_what_is_refused_is_named(case, tmp_path):
    values, every = shares(), [(i, k) for k in range(2) for i in range(N_CELLS)]

    def table(change=lambda v: v, order=every):
        path = tmp_path / f"bad_{len(list(tmp_path.iterdir()))}.csv"
        return write_table(path, change({n: v.copy() for n, v in values.items()}), order)

    def without(name):
        return lambda v: {n: a for n, a in v.items() if n != name}

    def with_value(name, number):
        def change(v):
            v[name][3, 1] = number
            return v
        return change

    for source, options, message in (
        (table(without("parFC")), ["--normalised"], "lacks parFC, expected every parameter of hbv_1_1p"),
        (table(with_value("parK1", 1.2)), ["--normalised"], "'K1' is 1.2 (1 of 16 values are bad), expected a number "
         "from 0 to 1"),
        (table(with_value("parFC", -5.0)), [], "'field_capacity' is -5.0"),
        (table(order=every[:-1]), ["--normalised"], "has no line for cell 'c7', component 2"),
        (table(order=every[:8]), ["--normalised"], "has 1 components, the run has components: 2"),
        (table(order=[*every, every[0]]), ["--normalised"], "stands twice"),
        (write_netcdf(tmp_path / "u.nc", scaled(values), units="inch"), [], "has units 'inch', expected"),
        (tmp_path / "none.csv", [], "cannot be read"),
    ):
        said, found = imported(case, source, *options)
        assert found is None and message in said.replace("\n", " "), (message, said)


def test_another_process_takes_no_such_parameters(case, tmp_path):
    other = change_config(case, "gr4j.yaml", runoff="gr4j")
    said, found = imported(other, write_netcdf(tmp_path / "p.nc", scaled(shares())))
    assert found is None and "runoff is 'gr4j', expected hbv_1_0" in said


def test_what_is_imported_is_not_written_over_a_file_of_the_run(case, tmp_path):
    source = tmp_path / "dhbv.csv"
    source.write_text("id,parFC\nc0,100\n")
    own = {case.parent / "domain.nc": "is the file of domain", source: "is the file that is imported"}
    for target, told in own.items():
        before = target.read_bytes()
        found = CliRunner().invoke(main, ["import-dhbv", str(case), str(source), "--to", str(target)])
        assert found.exit_code == 1 and told in " ".join(found.output.split()) and target.read_bytes() == before
