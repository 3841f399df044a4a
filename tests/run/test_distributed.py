"""A run over a dask scheduler: output, state and ledger of one process, bit for bit, whatever is cut or lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from cases import N_CELLS, START, change_config, write_case, write_parameters, write_series
from click.testing import CliRunner
from generator_cases import specify, write_attribute_domain, write_drawn_checkpoint
from process_cases import HBV, RESERVOIRS, installed

from bmi_cdlm.cli import main
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.files.output import read_output
from bmi_cdlm.files.restart import FORMAT
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.container import is_container, unpack, unseal
from bmi_cdlm.names.errors import ClusterError, ConfigError, ForcingError, OutputError, StateError
from bmi_cdlm.names.time_steps import HOUR
from bmi_cdlm.names.variables import variable
from bmi_cdlm.run import distributed as ours
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.distributed import run_distributed
from bmi_cdlm.run.simulation import Simulation

dask = pytest.importorskip("distributed", reason="dask.distributed is not installed")
dask_config = pytest.importorskip("dask").config


@pytest.fixture(scope="module")
def scheduler():
    """The address of a scheduler with two workers in this process."""
    with dask.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster:
        yield cluster.scheduler_address


def run_alone(config):
    simulation = Simulation(load_config(config))
    simulation.run()
    simulation.close()
    return simulation.model


def contents(path):
    """Everything in a NetCDF or restart file: attributes and values, by name."""
    if is_container(path.read_bytes()):
        found = unpack(unseal(path.read_bytes(), FORMAT, "", StateError, ""), "", StateError, "")
        return found.words, dict(sorted(found.arrays.items()))
    with netCDF4.Dataset(path) as dataset:
        dataset.set_auto_mask(False)
        found = {key: str(dataset.getncattr(key)) for key in dataset.ncattrs()}
        return found, {name: v[...] for name, v in dataset.variables.items()}


def assert_as_alone(config, scheduler, count):
    """Run both ways and compare output, restart file, all live values, and what is left in the folder."""
    settings = load_config(config)
    folder = config.parent
    expected = run_alone(config)
    before = set(folder.iterdir())
    files = {path: contents(path) for path in (settings.output, settings.restart) if path is not None}
    for path in files:
        path.unlink()
    shown = []
    got = run_distributed(settings, scheduler, count, shown.append)
    assert sum(shown) == settings.n_steps
    assert set(folder.iterdir()) == before
    for path, (attributes, values) in files.items():
        found = contents(path)
        assert found[0] == attributes
        assert list(found[1]) == list(values)
        for name in values:
            np.testing.assert_array_equal(found[1][name], values[name], err_msg=f"{path} {name}")
    assert list(got.live) == list(expected.live)
    for name, value in expected.live.items():
        np.testing.assert_array_equal(got.live[name], value, err_msg=name)


@pytest.mark.parametrize("count", [1, 5, 40])
@pytest.mark.slow
@pytest.mark.parametrize(
    "keys", [
        {"output_at": "gauges", "snow": "cemaneige"},
        {"output_at": "reaches", "output_variables": ["discharge", "reach_storage"], "spin_up": 2},
        {"output_at": "cells", "output_variables": ["runoff"], "threads": 2},
        {"output_at": ["r5", "r0", "r31"], "step": HOUR, "snow": "cemaneige_hysteresis"},
        {"step": HOUR, "n_steps": 72, "output_step": "1 d", "output_precision": 3, "restart_every": "2 d"},
        {"output": None, "restart": None},
    ], ids=lambda keys: "-".join(map(str, keys.values())),
)
def test_results_are_those_of_one_process(tmp_path, scheduler, keys, count, monkeypatch):
    monkeypatch.setattr("bmi_cdlm.domain.network.SMALLEST_PIECE", 3)
    config = write_case(tmp_path, **{"output": "run.nc", "restart": "end.nc", **keys})
    assert_as_alone(config, scheduler, count)


@pytest.mark.parametrize("components", [1, 3])
def test_a_checkpoint_with_a_pet_network(tmp_path, scheduler, components):
    config = write_case(
        tmp_path, snow="cemaneige", components=components, parameters="drawn.safetensors", output="run.nc",
        restart="end.nc",
    )
    write_attribute_domain(tmp_path / "domain.nc")
    write_drawn_checkpoint(tmp_path / "drawn.safetensors", specify(tmp_path / "domain.nc", components=components))
    assert_as_alone(config, scheduler, 7)


def test_a_checkpoint_with_an_lstm(tmp_path, scheduler):
    config = write_case(
        tmp_path, runoff="hbv", components=2, parameters="drawn.safetensors", output="run.nc", restart="end.nc",
    )
    write_attribute_domain(tmp_path / "domain.nc")
    write_drawn_checkpoint(tmp_path / "drawn.safetensors", specify(
        tmp_path / "domain.nc", snow="none", runoff="hbv", components=2, pet=False, lstm_hidden=5,
        varying=("recharge_shape", "evaporation_shape", "quickflow_rate"),
    ))
    assert_as_alone(config, scheduler, 7)


def test_processes_of_another_package_and_a_factor_per_cell(tmp_path, scheduler, monkeypatch):
    monkeypatch.setattr("bmi_cdlm.domain.network.SMALLEST_PIECE", 3)
    with installed(HBV, RESERVOIRS):
        config = write_case(
            tmp_path, runoff=HBV.name, routing=RESERVOIRS.name, components=2, output="run.nc", restart="end.nc",
            output_at="reaches",
        )
        write_parameters(tmp_path / "parameters.nc", {"pet_factor": np.linspace(0.5, 1.5, N_CELLS)})
        assert_as_alone(config, scheduler, 9)


def test_potential_evapotranspiration_from_weather_and_elevation(tmp_path, scheduler):
    config = write_case(tmp_path, pet="penman_monteith", output="run.nc", restart="end.nc", output_at="reaches")
    domain = read_domain(write_attribute_domain(tmp_path / "domain.nc"))
    settings = load_config(config)
    typical = {
        "precipitation": 3.0, "air_temperature": 9.0, "minimum_air_temperature": 5.0, "maximum_air_temperature": 14.0,
        "specific_humidity": 0.005, "air_pressure": 95000.0, "shortwave_radiation": 150.0, "wind_x": 2.0, "wind_y": 1.0,
    }
    factor = np.random.default_rng(3).uniform(0.9, 1.1, (settings.n_steps, domain.n_cells))
    columns = {name: (typical[name] * factor, variable(name).units) for name in settings.inputs}
    write_series(tmp_path / "forcing.nc", "cell", np.array(domain.cells.id, object), columns, START, settings.time_step)
    assert_as_alone(config, scheduler, 8)


@pytest.mark.parametrize("mode", ["resume", "hot_start"])
def test_a_run_goes_on_from_a_restart_file(tmp_path, scheduler, mode):
    first = write_case(tmp_path, restart="end.nc")
    settings = load_config(first)
    run_alone(change_config(first, name="first.yaml", end=str(settings.start + np.timedelta64(4, "D"))))
    config = change_config(first, initial_state="end.nc", restart_mode=mode, restart="end_2.nc", output="run.nc")
    expected = run_alone(config)
    alone = contents(tmp_path / "run.nc"), contents(tmp_path / "end_2.nc")
    got = run_distributed(load_config(config), scheduler, 6)
    assert got.live["water_in"] == expected.live["water_in"]
    for (_, values), name in zip(alone, ("run.nc", "end_2.nc"), strict=True):
        for key, value in contents(tmp_path / name)[1].items():
            np.testing.assert_array_equal(value, values[key], err_msg=key)


def test_forcing_without_ids_is_read_at_the_places_of_the_domain(tmp_path, scheduler):
    config = write_case(tmp_path, output="run.nc", output_at="reaches")
    with netCDF4.Dataset(tmp_path / "forcing.nc", "a") as dataset:
        dataset.renameVariable("cell_id", "name_of_the_cell")
    assert_as_alone(config, scheduler, 9)


def test_the_command_prints_what_one_process_prints(tmp_path, scheduler):
    config = write_case(tmp_path, output="run.nc")
    alone = CliRunner().invoke(main, ["run", str(config), "--quiet"])
    words = ["run", str(config), "--quiet", "--scheduler", scheduler, "--partitions", "4"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert result.output == alone.output and "water [m3]: in" in result.output
    result = CliRunner().invoke(main, ["run", str(config), "--partitions", "4"])
    assert result.exit_code == 2 and "--partitions goes with --scheduler" in result.output
    result = CliRunner().invoke(main, [*words, "--resume"])
    assert result.exit_code == 2 and "--resume goes without --scheduler" in result.output


def test_output_of_all_partitions_in_one_store(tmp_path, scheduler):
    pytest.importorskip("zarr")
    config = write_case(tmp_path, output="run.zarr", output_at="reaches")
    run_alone(change_config(config, name="alone.yaml", output="alone.nc"))
    run_distributed(load_config(config), scheduler, 6)
    for found, expected in zip(
        read_output(tmp_path / "run.zarr", "discharge"), read_output(tmp_path / "alone.nc", "discharge"), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_the_calendar_of_a_climate_model(tmp_path, scheduler):
    config = write_case(
        tmp_path, calendar="360_day", start="2000-02-28", end="2000-03-07", output="run.nc", output_at="reaches"
    )
    with netCDF4.Dataset(tmp_path / "forcing.nc", "a") as dataset:
        dataset["time"].setncatts({"units": "days since 2000-02-28", "calendar": "360_day"})
        dataset["time"][:] = np.arange(9)
    run_alone(change_config(config, name="alone.yaml", output="alone.nc"))
    run_distributed(load_config(config), scheduler, 4)
    found, expected = (read_output(tmp_path / name, "discharge") for name in ("run.nc", "alone.nc"))
    assert [date_text(t)[5:10] for t in found[0]][:4] == ["02-28", "02-29", "02-30", "03-01"]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


# ---- errors ----------------------------------------------------------------------------------------------


def assert_intact(config, scheduler, error, match, before=b"of another day"):
    settings = load_config(config)
    settings.output.write_bytes(before)
    kept = set(config.parent.iterdir())
    with pytest.raises(error, match=match):
        run_distributed(settings, scheduler, 5)
    assert set(config.parent.iterdir()) == kept
    assert settings.output.read_bytes() == before


def test_a_fault_that_a_worker_finds_names_the_partition(tmp_path, scheduler):
    config = write_case(tmp_path, output="run.nc")
    with netCDF4.Dataset(tmp_path / "forcing.nc", "a") as dataset:
        dataset["precipitation"][3, 7] = -1.0
    assert_intact(config, scheduler, ForcingError, r"partition \d of \d \(\d+ reaches, .*-1 at 2001-03-04.* in cell c7")


def test_any_other_failure_of_a_partition_names_it_too(tmp_path, scheduler, monkeypatch):
    def fail(*_):
        raise MemoryError("too much")

    monkeypatch.setattr(Simulation, "snapshot", fail)
    config = write_case(tmp_path, output="run.nc")
    assert_intact(config, scheduler, ClusterError, r"partition \d of \d \(.*MemoryError: too much")


def test_what_is_wrong_before_the_work_starts(tmp_path, scheduler):
    config = write_case(tmp_path, output="run.nc")
    assert_intact(change_config(config, forcing="caller"), scheduler, ConfigError, "forcing is 'caller'")
    assert_intact(change_config(config, ledger_tolerance=1e-9), scheduler, ConfigError, "ledger_tolerance")
    assert_intact(change_config(config, output_at=["r99"]), scheduler, ConfigError, "no reach 'r99'")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        run_distributed(load_config(change_config(config, output="folder")), scheduler)


def test_a_scheduler_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(ours, "PATIENCE", 0.3)
    config = load_config(write_case(tmp_path))
    for address in ("tcp://127.0.0.1:9", "nonsense://x", "tcp://127.0.0.1"):
        with pytest.raises(ClusterError, match="cannot be reached"):
            run_distributed(config, address)


def test_a_scheduler_without_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(ours, "PATIENCE", 0.3)
    config = load_config(write_case(tmp_path))
    with (
        dask.LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster,
        pytest.raises(ClusterError, match="has no workers"),
    ):
        run_distributed(config, cluster.scheduler_address)


def test_workers_with_another_version(tmp_path, scheduler, monkeypatch):
    monkeypatch.setattr(ours, "code_version", lambda: "0.0.1")
    with pytest.raises(ClusterError, match=r"has bmi_cdlm 0\.0\.1, expected"):
        run_distributed(load_config(write_case(tmp_path)), scheduler)


def test_without_dask_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match=r"bmi-cdlm\[distributed\]"):
        run_distributed(load_config(write_case(tmp_path)), "tcp://127.0.0.1:9")


# ---- lost workers ----------------------------------------------------------------------------------------


def kill_a_worker_in_the_middle(cluster, folder: Path, killed: list) -> None:
    """Wait until a partition has begun, and end the process that runs it."""
    with dask.Client(cluster.scheduler_address, set_as_default=False) as client:
        pids = client.run(os.getpid)
        while not killed:
            for address, keys in client.processing().items():
                number = str(keys[0]).rpartition("-")[2] if keys else "-"
                begun = list(folder.glob(f".run.nc.*.parts/{number}.*/output.nc.partial"))
                if begun and begun[0].stat().st_size > 20_000 and number != "0":
                    killed.append((number, begun[0].parent))
                    os.kill(pids[address], signal.SIGKILL)
                    break
            time.sleep(0.005)


def write_long_case(folder):
    """States are written step by step, so that there is time to kill a process in the middle of a partition."""
    return write_case(
        folder, n_steps=4000, output="run.nc", output_at="reaches", output_variables=["discharge", "reach_storage"],
        restart="end.nc",
    )


def run_while_killing(config, kill):
    """Run on two worker processes, with `kill(cluster, folder, killed)` in a thread beside; returns `killed`."""
    killed: list = []
    with dask.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster:
        killer = threading.Thread(target=kill, args=(cluster, config.parent, killed), daemon=True)
        killer.start()
        try:
            run_distributed(load_config(config), cluster.scheduler_address, 4)
        finally:
            killer.join(timeout=10)
    return killed


@pytest.mark.slow
def test_a_partition_that_loses_every_worker_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(ours, "PATIENCE", 1.0)
    config = write_long_case(tmp_path)
    before = set(tmp_path.iterdir())
    with (
        dask_config.set({"distributed.scheduler.allowed-failures": 0}),
        pytest.raises(ClusterError, match=r"partition \d of \d \(\d+ reaches\): its worker was lost again and again"),
    ):
        run_while_killing(config, kill_a_worker_in_the_middle)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_the_partition_of_a_worker_that_is_killed_runs_again(tmp_path):
    config = write_long_case(tmp_path)
    run_alone(config)
    expected = contents(tmp_path / "run.nc"), contents(tmp_path / "end.nc")
    (tmp_path / "run.nc").unlink()
    assert run_while_killing(config, kill_a_worker_in_the_middle), "no worker was killed: the run was too short"
    for (attributes, values), name in zip(expected, ("run.nc", "end.nc"), strict=True):
        found = contents(tmp_path / name)
        assert found[0] == attributes
        for key, value in values.items():
            np.testing.assert_array_equal(found[1][key], value, err_msg=key)
    assert read_output(tmp_path / "run.nc", "discharge")[2].shape == (4000, 40)
    assert not list(tmp_path.glob(".*"))


# ---- who may speak ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority, a certificate of it, and one of another authority; as openssl makes them."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    for who in ("ours", "theirs"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={who}", "-keyout",
                f"{who}-ca.key", "-out", f"{who}-ca.pem")
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=worker", "-keyout", f"{who}.key", "-out", "a.csr")
        openssl("x509", "-req", "-in", "a.csr", "-CA", f"{who}-ca.pem", "-CAkey", f"{who}-ca.key", "-CAcreateserial",
                "-days", "2", "-out", f"{who}.pem")
    ends = ("-ca.pem", ".pem", ".key")
    return {who: ours.Tls(*(folder / f"{who}{end}" for end in ends)) for who in ("ours", "theirs")}


@pytest.fixture
def tls_scheduler(certificates):
    tls = certificates["ours"]
    security = dask.Security(
        tls_ca_file=str(tls.ca), require_encryption=True,
        **{f"tls_{who}_{what}": str(getattr(tls, what)) for who in ("client", "scheduler", "worker")
           for what in ("cert", "key")},
    )
    with dask.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0", security=security, protocol="tls://"
    ) as cluster:
        yield cluster.scheduler_address


def test_tls(tmp_path, tls_scheduler, certificates, monkeypatch):
    config = write_case(tmp_path, output="run.nc", output_at="reaches")
    tls = certificates["ours"]
    words = ["run", str(config), "--quiet", "--scheduler", tls_scheduler]
    given = [*words, "--tls-ca", str(tls.ca), "--tls-cert", str(tls.cert), "--tls-key", str(tls.key)]
    result = CliRunner().invoke(main, given)
    assert tls_scheduler.startswith("tls://") and result.exit_code == 0, result.output
    run_alone(change_config(config, output="alone.nc"))
    one, other = read_output(tmp_path / "run.nc", "discharge"), read_output(tmp_path / "alone.nc", "discharge")
    np.testing.assert_array_equal(one[2], other[2])
    monkeypatch.setattr(ours, "PATIENCE", 2.0)
    for strangers in ([], ["--tls-ca", *map(str, certificates["theirs"][:1]), "--tls-cert",
                           str(certificates["theirs"].cert), "--tls-key", str(certificates["theirs"].key)]):
        result = CliRunner().invoke(main, [*words, *strangers])
        assert result.exit_code == 1 and "cannot be reached" in result.output, result.output


def test_tls_options_that_do_not_fit(tmp_path):
    config = str(write_case(tmp_path))
    for words, message in (
        (["--tls-ca", "a"], "go together"), (["--tls-ca", "a", "--tls-cert", "b", "--tls-key", "c"], "go with"),
        (["--scheduler", "tcp://x", "--tls-ca", "a", "--tls-cert", "b", "--tls-key", "c"], "go with"),
        (["--scheduler", "tls://x", "--tls-ca", "a", "--tls-cert", "b", "--tls-key", "c"], "no such file"),
    ):
        result = CliRunner().invoke(main, ["run", config, *words])
        assert result.exit_code and message in " ".join(result.output.split()), result.output


@pytest.mark.parametrize(("address", "warns"), [
    ("tcp://127.0.0.1:8786", False), ("tcp://localhost:1", False), ("tls://10.0.0.1:8786", False),
    ("inproc://10.0.0.1/1", False), ("tcp://10.0.0.1:8786", True), ("node7:8786", True), ("ws://node7:8786", True),
])
def test_a_plain_port_of_another_machine_is_warned_of(address, warns, caplog):
    ours._warn_of_strangers(address)
    assert ("whoever reaches that port can run code" in caplog.text) == warns
