"""Zarr stores beside NetCDF: the same run from either, and clear words where something is wrong."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from cases import N_CELLS, N_STEPS, case_forcing, change_config, simulated, write_case

from bmi_cdlm.files.output import read_output
from bmi_cdlm.names.errors import ForcingError, OutputError
from bmi_cdlm.names.time_steps import DAY

xarray, zarr = pytest.importorskip("xarray"), pytest.importorskip("zarr")
# Texts of fixed length, by xarray; zarr 3.0 has no class for that warning.
FIXED_LENGTH = pytest.mark.filterwarnings(
    "ignore::zarr.errors.UnstableSpecificationWarning" if hasattr(zarr.errors, "UnstableSpecificationWarning")
    else "ignore:.*Zarr format 3 specification:UserWarning"
)


def run(config):
    with simulated(config) as simulation:
        simulation.run()


def to_zarr(config, **options):
    """The forcing of a case as a store."""
    path = config.parent / "forcing.zarr"
    with xarray.open_dataset(config.parent / "forcing.nc") as dataset:
        dataset["cell_id"] = dataset.cell_id.astype(str)
        dataset.to_zarr(path, mode="w", consolidated=False, **options)
    return path


@pytest.fixture
def config(tmp_path):
    return write_case(tmp_path, snow="cemaneige", output="run.nc", output_at="reaches")


@FIXED_LENGTH
@pytest.mark.parametrize("version", [2, 3])
def test_forcing_and_output_in_stores_give_the_same_numbers(config, version, monkeypatch):
    run(config)
    to_zarr(config, zarr_format=version, encoding={"precipitation": {"chunks": (4, 10)}})
    for cache in (256, 0):
        monkeypatch.setattr("bmi_cdlm.files.series.BLOCK_BYTES", cache * 2**20 or 3 * N_CELLS * 8)
        run(change_config(config, forcing="forcing.zarr", output="run.zarr", memory="64 MiB" if cache else "1 MB"))
        for ours, theirs in zip(
            read_output(config.parent / "run.zarr", "discharge"), read_output(config.parent / "run.nc", "discharge"),
            strict=True,
        ):
            assert np.array_equal(ours, theirs)
    assert not list(config.parent.glob(".*")) and not list(config.parent.glob("*.partial"))


def test_a_store_of_output_is_read_by_xarray(config):
    run(config)
    run(change_config(config, output="run.zarr", output_precision=4))
    with (
        xarray.open_zarr(config.parent / "run.zarr", consolidated=False) as store,
        xarray.open_dataset(config.parent / "run.nc") as file,
    ):
        assert store.discharge.dims == ("time", "reach") and store.discharge.dtype == np.float32
        np.testing.assert_allclose(store.discharge, file.discharge, rtol=0.5e-4)
        assert (store.time == file.time).all() and (store.time_bnds == file.time_bnds).all()
        assert store.reach_id.to_numpy().tolist() == file.reach_id.to_numpy().tolist()
        assert store.attrs == file.attrs | {"configuration_spin_up": "0"}


@FIXED_LENGTH
def test_gaps_in_a_store_are_seen(config):
    forcing = case_forcing(N_STEPS[DAY], N_CELLS)
    for version in (2, 3):
        path = to_zarr(config, zarr_format=version)
        group = zarr.open_group(str(path), mode="r+")
        group["precipitation"][3, 7] = np.nan
        with pytest.raises(ForcingError, match=r"forcing\.zarr: 'precipitation' is missing at 2001-03-04.* cell c7"):
            run(change_config(config, forcing="forcing.zarr"))
        run(change_config(config, forcing="forcing.zarr", forcing_fill={"precipitation": "zero"}, output=None))
        assert forcing.precipitation.shape == group["precipitation"].shape


@FIXED_LENGTH
def test_a_damaged_chunk_is_an_error_that_names_it(config):
    path = to_zarr(config, zarr_format=3)
    for chunk in (path / "precipitation" / "c").rglob("0"):
        if chunk.is_file():
            chunk.write_bytes(b"no chunk")
    with pytest.raises(ForcingError, match=r"'precipitation' cannot be read from 2001-03-01"):
        run(change_config(config, forcing="forcing.zarr"))


def test_a_store_without_names_of_dimensions(config):
    group = zarr.open_group(str(config.parent / "bare.zarr"), mode="w")
    group.create_array("precipitation", shape=(3, 4), dtype="f8")[:] = 0.0
    with pytest.raises(ForcingError, match="does not name its 2 dimensions"):
        run(change_config(config, forcing="bare.zarr"))


def test_without_the_package(config, monkeypatch):
    zarr.open_group(str(config.parent / "forcing.zarr"), mode="w")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ForcingError, match=r"the package zarr is not installed\. Install bmi_cdlm\[zarr\]"):
        run(change_config(config, forcing="forcing.zarr"))
    with pytest.raises(OutputError, match=r"Install bmi_cdlm\[zarr\]"):
        run(change_config(config, output="run.zarr"))


@FIXED_LENGTH
def test_a_domain_and_parameters_in_stores(config):
    run(config)
    for name in ("domain", "parameters"):
        with xarray.open_dataset(config.parent / f"{name}.nc") as dataset:
            texts = {n: v.astype(str) for n, v in dataset.variables.items() if v.dtype == object}
            dataset.assign({n: (v.dims, v.to_numpy()) for n, v in texts.items()}).to_zarr(
                config.parent / f"{name}.zarr", consolidated=False
            )
    run(change_config(config, domain="domain.zarr", parameters="parameters.zarr", output="other.nc"))
    ours, theirs = (read_output(config.parent / name, "discharge") for name in ("other.nc", "run.nc"))
    assert ours[1] == theirs[1] and np.array_equal(ours[2], theirs[2])


def test_a_folder_of_something_else_is_not_replaced(config):
    folder = config.parent / "thesis.zarr"
    (folder / "chapters").mkdir(parents=True)
    path = change_config(config, output="thesis.zarr")
    with pytest.raises(OutputError, match=r"thesis\.zarr: is a folder with chapters in it and no Zarr store"):
        run(path)
    assert (folder / "chapters").is_dir() and not list(config.parent.glob("*.partial"))
    (folder / "chapters").rmdir()
    for _ in range(2):  # an empty folder, then the store that is there
        run(path)
        assert read_output(folder, "discharge")[2].shape[0] == N_STEPS[DAY]
