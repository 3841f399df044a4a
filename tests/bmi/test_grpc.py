"""grpc4bmi: a server in a process of its own and its client are a local instance, bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from cases import N_CELLS, E, P, Q, opened, regular_case, write_case

from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.names.variables import variable

client_module = pytest.importorskip("grpc4bmi.bmi_grpc_client", reason="grpc4bmi is not installed (extra `coupling`)")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
STORE = variable("routing_store").name


@contextmanager
def served():
    """A client of a server process, as `run-bmi-server --name bmi_cdlm.BmiCdlm` starts it."""
    import grpc

    port = client_module.BmiClient.get_unique_port("localhost")
    command = f"import sys; sys.argv = ['run-bmi-server', '--name', 'bmi_cdlm.BmiCdlm', '--port', '{port}']; "
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'training'}"}
    server = subprocess.Popen(
        [sys.executable, "-c", command + "from grpc4bmi.run_server import main; main()"], env=environment,
        stderr=subprocess.PIPE,
    )
    try:
        channel = grpc.insecure_channel(f"localhost:{port}")
        grpc.channel_ready_future(channel).result(timeout=120)
        yield client_module.BmiClient(channel)
        channel.close()
    finally:
        server.terminate()
        server.communicate(timeout=30)


def all_values(component, names):
    return {n: component.get_value(n, np.empty(component.get_var_nbytes(n) // component.get_var_itemsize(n)))
            for n in names}


def assert_equal_everywhere(client, local):
    for name in ("get_component_name", "get_time_units", "get_start_time", "get_current_time", "get_end_time",
                 "get_time_step", "get_input_item_count", "get_output_item_count"):
        assert getattr(client, name)() == getattr(local, name)(), name
    names = (*local.get_input_var_names(), *local.get_output_var_names())
    assert (*client.get_input_var_names(), *client.get_output_var_names()) == names
    for name in (*names, *local.get_parameter_names()):
        for asked in ("grid", "itemsize", "nbytes", "units", "type", "location"):
            answers = [getattr(c, f"get_var_{asked}")(name) for c in (client, local)]
            assert str(answers[0]).lower() == str(answers[1]).lower(), (name, asked)
    expected = all_values(local, (*names, *local.get_parameter_names()))
    for name, values in all_values(client, expected).items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


def assert_grids_equal(client, local):
    for grid in range(4):
        for asked in ("type", "rank", "size", "node_count", "edge_count", "face_count"):
            assert getattr(client, f"get_grid_{asked}")(grid) == getattr(local, f"get_grid_{asked}")(grid)
        nodes, edges, faces = (getattr(local, f"get_grid_{n}_count")(grid) for n in ("node", "edge", "face"))
        if local.get_grid_type(grid) == "scalar":
            continue
        sizes = {"x": nodes, "y": nodes, "z": nodes, "edge_nodes": 2 * edges}
        if faces:
            corners = local.get_grid_nodes_per_face(grid, np.empty(faces, np.int32)).sum()
            sizes |= {"nodes_per_face": faces, "face_nodes": corners, "face_edges": corners}
        for asked, size in sizes.items():
            kind = float if asked in "xyz" else np.int32
            got, expected = (getattr(c, f"get_grid_{asked}")(grid, np.zeros(size, kind)) for c in (client, local))
            np.testing.assert_array_equal(got, expected, err_msg=asked)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("profile", ["unstructured", "points"])
def test_server_and_client_are_a_local_instance(tmp_path, profile):
    config = write_case(tmp_path, snow="cemaneige", grid_profile=profile)
    with served() as client, opened(config) as local:
        client.initialize(str(config))
        assert_grids_equal(client, local)
        assert_equal_everywhere(client, local)
        rain = np.random.default_rng(2).exponential(8.0, N_CELLS)
        places = np.array([3, 0, 7], np.int32)
        for step in range(1, 6):
            for component in (client, local):
                component.set_value(P, rain * step)
                component.set_value_at_indices(E, places, np.array([0.5, 1.5, 2.5]))
                if step == 3:
                    component.set_value("unit_hydrograph_base", np.full(N_CELLS, 6.5))
                    component.set_value_at_indices(STORE, places, np.array([5.0, 6.0, 7.0]))
                component.update_until(step * DAY + 3600.0) if step == 4 else component.update()
            assert_equal_everywhere(client, local)
            got, expected = (c.get_value_at_indices(Q, np.zeros(3), places) for c in (client, local))
            np.testing.assert_array_equal(got, expected)
        client.finalize()
        client.initialize(str(config))
        assert client.get_current_time() == 0.0
        client.finalize()


@pytest.mark.filterwarnings("ignore")
def test_rows_and_columns_travel(tmp_path):
    config, places = regular_case(tmp_path, time_units="s")
    with served() as client, opened(config) as local:
        client.initialize(str(config))
        for component in (client, local):
            component.set_value_at_indices(P, places[:2].astype(np.int32), np.array([3.0, 40.0]))
            component.update()
        assert client.get_grid_type(0) == "rectilinear"
        shape = client.get_grid_shape(0, np.zeros(2, np.int64))
        np.testing.assert_array_equal(shape, local.get_grid_shape(0, np.zeros(2, np.int64)))
        for axis, size in (("x", shape[1]), ("y", shape[0])):
            got, expected = (getattr(c, f"get_grid_{axis}")(0, np.zeros(size)) for c in (client, local))
            np.testing.assert_array_equal(got, expected)
        assert_equal_everywhere(client, local)
        client.finalize()


@pytest.mark.filterwarnings("ignore")
def test_an_error_reaches_the_client_and_the_server_lives_on(tmp_path):
    config = write_case(tmp_path)
    with served() as client:
        client.initialize(str(config))
        for wrong in (lambda: client.set_value(P, np.ones(3)), lambda: client.get_var_units("rain"),
                      lambda: client.update_until(-1.0), lambda: client.set_value(Q, np.ones(40))):
            with pytest.raises(Exception):  # noqa: B017
                wrong()
        client.update()
        assert client.get_current_time() == DAY
        client.finalize()


@pytest.mark.filterwarnings("ignore")
def test_the_example_runs(tmp_path):
    config = write_case(tmp_path)
    result = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "grpc_client.py"), str(config)], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'training'}"}, timeout=240, check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "equal to a local run, bit for bit" in result.stdout
