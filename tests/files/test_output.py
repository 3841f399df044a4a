"""Output files: complete under their name, and readable as far as written when a run dies."""

from __future__ import annotations

import logging
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time

import netCDF4
import numpy as np
import pytest

from bmi_cdlm.files import output
from bmi_cdlm.files.output import OutputFile, partial_path, read_output
from bmi_cdlm.names.errors import OutputError, UnknownNameError
from bmi_cdlm.names.variables import variable
from bmi_cdlm.version import __version__

DAY = 86400
START = np.datetime64("2001-01-01", "s")


def days(first, count):
    return START + np.arange(first, first + count) * np.timedelta64(DAY, "s")


def flows(first, count, n=2):
    return np.arange(first * n, (first + count) * n, dtype=float).reshape(count, n) + 0.1


def opened(path, names=("discharge",), ids=("x", "y"), dimension="gauge", **more):
    return OutputFile(path, dimension, list(ids), list(names), DAY, {"title": "A test"}, **more)


@pytest.mark.parametrize("sizes", [[1] * 200, [200], [63, 1, 64, 65, 7], [150, 50]])
def test_blocks_of_any_size_make_the_same_file(tmp_path, sizes):
    path = tmp_path / "sub" / "run.nc"
    with opened(path, ["discharge", "lateral_inflow"]) as file:
        first = 0
        for count in sizes:
            file.append(days(first, count), {
                "discharge": flows(first, count), "lateral_inflow": -flows(first, count), "not_asked_for": 1,
            })
            first += count
        assert not path.exists()
        assert file.partial.exists()
    assert not file.partial.exists()
    starts, ids, values = read_output(path, "discharge")
    assert np.array_equal(starts, days(0, 200))
    assert ids == ["x", "y"]
    assert np.array_equal(values, flows(0, 200))
    assert np.array_equal(read_output(path, "lateral_inflow")[2], -flows(0, 200))


def test_what_the_file_says_about_itself(tmp_path):
    path = tmp_path / "run.nc"
    with OutputFile(path, "cell", ["a"], ["runoff", "snowpack"], 3600, {"history": "made by a test"}) as file:
        file.append(days(0, 1), {"runoff": [[1.5]], "snowpack": [[2]]})
    with netCDF4.Dataset(path) as dataset:
        assert dataset.Conventions == "CF-1.11"
        assert dataset.title == "Output of CDLM"
        assert dataset.source == f"bmi_cdlm {__version__}"
        assert dataset.history == "made by a test"
        assert "featureType" not in dataset.ncattrs()
        assert dataset.dimensions["time"].isunlimited()
        runoff, snowpack = dataset.variables["runoff"], dataset.variables["snowpack"]
        assert runoff.dimensions == ("time", "cell") and runoff.dtype == np.float64
        assert (runoff.units, runoff.cell_methods) == ("mm d-1", "time: mean")
        assert (snowpack.units, snowpack.cell_methods) == ("mm", "time: point")
        assert runoff.csdms_name == variable("runoff").name
        assert runoff.long_name == variable("runoff").meaning
        assert runoff.filters()["zlib"] and runoff.filters()["shuffle"] and runoff.filters()["complevel"] == 1
        assert dataset.variables["time"].bounds == "time_bnds"
        seconds = int(START.astype(np.int64))
        assert dataset.variables["time_bnds"][:].tolist() == [[seconds, seconds + 3600]]


def test_gauges_with_positions_are_time_series(tmp_path):
    path = tmp_path / "run.nc"
    with opened(path, position=(np.array([3.8, 3.9]), np.array([43.5, 43.6]))) as file:
        file.append(days(0, 1), {"discharge": flows(0, 1)})
    with netCDF4.Dataset(path) as dataset:
        assert dataset.title == "A test"
        assert dataset.featureType == "timeSeries"
        assert dataset.variables["gauge_id"].cf_role == "timeseries_id"
        assert dataset.variables["gauge_lat"].units == "degrees_north"
        assert dataset.variables["gauge_lon"][:].tolist() == [3.8, 3.9]
        assert dataset.variables["discharge"].coordinates == "gauge_lat gauge_lon"
        assert dataset.variables["discharge"].csdms_name == variable("discharge").name


def test_missing_values_survive(tmp_path):
    path = tmp_path / "run.nc"
    with opened(path) as file:
        file.append(days(0, 2), {"discharge": [[np.nan, 1], [2, np.nan]]})
    assert np.array_equal(read_output(path, "discharge")[2], [[np.nan, 1], [2, np.nan]], equal_nan=True)


def test_a_file_without_steps_and_a_file_without_points(tmp_path):
    opened(tmp_path / "none.nc").close()
    starts, ids, values = read_output(tmp_path / "none.nc", "discharge")
    assert starts.shape == (0,) and ids == ["x", "y"] and values.shape == (0, 2)
    with pytest.raises(OutputError, match=r"points\.nc: there is no gauge to write, expected at least one"):
        opened(tmp_path / "points.nc", ids=())


def test_close_twice_then_append(tmp_path):
    file = opened(tmp_path / "run.nc")
    file.close()
    file.close()
    file.abandon()
    with pytest.raises(OutputError, match=r"run\.nc: is closed"):
        file.append(days(0, 1), {"discharge": flows(0, 1)})


def test_an_older_result_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "run.nc"
    with opened(path) as file:
        file.append(days(0, 3), {"discharge": flows(0, 3)})
    with opened(path) as file:
        file.append(days(0, 1), {"discharge": flows(0, 1)})
        assert read_output(path, "discharge")[2].shape == (3, 2)
    assert read_output(path, "discharge")[2].shape == (1, 2)


def test_an_error_in_the_run_leaves_the_partial_file(tmp_path, caplog):
    path = tmp_path / "run.nc"
    with pytest.raises(ZeroDivisionError), opened(path) as file:
        file.append(days(0, 70), {"discharge": flows(0, 70)})
        raise ZeroDivisionError
    assert not path.exists()
    starts, _, values = read_output(path, "discharge")
    assert np.array_equal(values, flows(0, 70)) and np.array_equal(starts, days(0, 70))
    assert f"{path}: does not exist; reading {path}.partial" in caplog.text
    opened(path).close()
    assert f"{path}.partial: left by a run that did not finish; overwritten now" in caplog.text


@pytest.mark.parametrize("starts, values, message", [
    (days(0, 1), {}, "'discharge' was not given, expected discharge"),
    (days(0, 2), {"discharge": flows(0, 1)}, r"'discharge' has shape \(1, 2\), expected \(2, 2\)"),
    (days(0, 1), {"discharge": np.ones(2)}, r"'discharge' has shape \(2,\), expected \(1, 2\)"),
    (days(1, 2)[::-1], {"discharge": flows(0, 2)}, "do not follow on, expected steps of 86400 s from 2001"),
])
def test_a_block_that_does_not_fit_is_refused(tmp_path, starts, values, message):
    with pytest.raises(OutputError, match=message), opened(tmp_path / "run.nc") as file:
        file.append(starts, values)


def test_a_gap_between_blocks_is_refused(tmp_path):
    with opened(tmp_path / "run.nc") as file:
        file.append(days(0, 3), {"discharge": flows(0, 3)})
        with pytest.raises(OutputError, match=r"do not follow on, expected .* from 2001-01-04T00:00:00"):
            file.append(days(4, 1), {"discharge": flows(0, 1)})
        file.append(days(3, 0), {"discharge": flows(0, 0)})
        file.append(days(3, 1), {"discharge": flows(3, 1)})
    assert np.array_equal(read_output(tmp_path / "run.nc", "discharge")[2], flows(0, 4))


def test_a_name_or_place_that_cannot_be(tmp_path):
    with pytest.raises(UnknownNameError, match="no variable 'discharg'"):
        opened(tmp_path / "run.nc", ["discharg"])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"run\.nc: cannot be written .*Choose another output path"):
        opened(tmp_path / "file" / "run.nc")
    (tmp_path / "folder.nc").mkdir()
    with pytest.raises(OutputError, match=r"folder\.nc: is a folder"):
        opened(tmp_path / "folder.nc")


def test_reading_what_is_not_there(tmp_path):
    with pytest.raises(OutputError, match="there is no such file"):
        read_output(tmp_path / "run.nc", "discharge")
    opened(tmp_path / "run.nc").close()
    with pytest.raises(OutputError, match=r"variable 'runoff' is missing.*The file has: .*discharge"):
        read_output(tmp_path / "run.nc", "runoff")
    with pytest.raises(OutputError, match=r"'time' lies on \(time\), expected time and one more"):
        read_output(tmp_path / "run.nc", "time")


def test_wide_files_have_short_chunks_and_a_bounded_buffer(tmp_path, monkeypatch):
    monkeypatch.setattr(output, "BUFFER_BYTES", 8 * 10_000 * 5)
    monkeypatch.setattr(output, "FEWEST_STEPS", 1)
    ids = [str(k) for k in range(10_000)]
    with opened(tmp_path / "run.nc", ids=ids, dimension="reach") as file:
        assert file.block_steps == 5
        file.append(days(0, 12), {"discharge": flows(0, 12, 10_000)})
        assert file.n_written == 10
    with netCDF4.Dataset(tmp_path / "run.nc") as dataset:
        assert dataset.variables["discharge"].chunking() == [5, 4096]
    assert np.array_equal(read_output(tmp_path / "run.nc", "discharge")[2], flows(0, 12, 10_000))


WRITER = textwrap.dedent("""
    import sys
    from pathlib import Path
    import numpy as np
    from bmi_cdlm.files.output import OutputFile
    start, count = np.datetime64("2001-01-01", "s"), int(sys.argv[2])
    file = OutputFile(Path(sys.argv[1]), "gauge", ["x", "y"], ["discharge"], 86400, {})
    k = 0
    while True:
        rows = np.arange(2 * k, 2 * (k + count), dtype=float).reshape(count, 2) + 0.1
        file.append(start + np.arange(k, k + count) * np.timedelta64(86400, "s"), {"discharge": rows})
        k += count
        sys.stdout.write(f"{k} {file.n_written}\\n")
        sys.stdout.flush()
""")


def spawn(path, count, **options):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(count)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, **options,
    )


@pytest.mark.parametrize("count, delay", [(1, 0.0), (7, 0.05), (64, 0.11), (640, 0.02)])
def test_after_kill_9_all_but_a_block_can_be_read(tmp_path, count, delay):
    path = tmp_path / "run.nc"
    process = spawn(path, count)
    while int(process.stdout.readline().split()[1]) < 64:
        pass
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    said = [line.split() for line in process.stdout.read().splitlines() if len(line.split()) == 2]
    process.stderr.close()
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    appended, written = (int(n) for n in said[-1]) if said else (64, 64)
    starts, ids, values = read_output(path, "discharge")
    n = starts.size
    assert n >= written > appended - 64
    assert ids == ["x", "y"]
    assert np.array_equal(starts, days(0, n))
    assert np.array_equal(values, flows(0, n))


def test_a_second_run_cannot_write_the_same_file(tmp_path):
    path = tmp_path / "run.nc"
    with opened(path) as file:
        file.append(days(0, 64), {"discharge": flows(0, 64)})
        with pytest.raises(OutputError, match="is being written by another run"):
            opened(path)
        process = spawn(path, 1)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "OutputError" in errors and "is being written by another run" in errors
    assert np.array_equal(read_output(path, "discharge")[2], flows(0, 64))


def test_a_full_disk_stops_the_run_and_keeps_what_was_written(tmp_path):
    """A limit on file size stands for the full disk; it makes HDF5 fail in the same calls."""
    path = tmp_path / "run.nc"
    limit = output.SLACK_BYTES + 300_000
    process = spawn(path, 64, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "OutputError" in errors and "cannot be written (File too large)" in errors
    assert "Free space on the disk, or choose another output path" in errors
    written = int(said.split()[-1])
    assert f"its first {written} steps stay readable" in errors
    starts, _, values = read_output(path, "discharge")
    assert starts.size == written > 640
    assert np.array_equal(values, flows(0, written))


def test_an_error_of_the_library_is_an_output_error(tmp_path, monkeypatch, caplog):
    path = tmp_path / "run.nc"
    file = opened(path)
    file.append(days(0, 64), {"discharge": flows(0, 64)})

    def fail(*args):
        raise RuntimeError("NetCDF: HDF error")

    with monkeypatch.context() as patch:
        patch.setattr(output, "write_time", fail)
        message = r"run\.nc\.partial: cannot be written \(NetCDF: HDF error\); its first 64 steps"
        with pytest.raises(OutputError, match=message):
            file.append(days(64, 64), {"discharge": flows(64, 64)})
    file.close()
    assert not path.exists()
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(read_output(path, "discharge")[2][:64], flows(0, 64))
    assert read_output(path, "discharge")[0].size == 64


def test_a_disk_too_full_for_the_finished_file_keeps_the_partial_one(tmp_path, monkeypatch):
    path = tmp_path / "run.nc"
    file = opened(path)
    file.append(days(0, 70), {"discharge": flows(0, 70)})

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output, "_compress", fail)
    with pytest.raises(OutputError, match=r"\(No space left on device\); its first 70 steps stay readable"):
        file.close()
    assert [p.name for p in tmp_path.iterdir()] == ["run.nc.partial"]
    assert np.array_equal(read_output(path, "discharge")[2], flows(0, 70))


def test_a_running_file_can_be_read(tmp_path):
    with opened(tmp_path / "run.nc", ids=("é", "y2")) as file:
        file.append(days(0, 65), {"discharge": flows(0, 65)})
        starts, ids, values = read_output(tmp_path / "run.nc", "discharge")
        assert starts.size == 64 and ids == ["é", "y2"]
        assert np.array_equal(values, flows(0, 64))


def test_a_damaged_file_says_so(tmp_path):
    path = tmp_path / "run.nc"
    noise = np.random.default_rng(0).random((640, 20))
    with opened(path, ids=[str(k) for k in range(20)]) as file:
        file.append(days(0, 640), {"discharge": noise})
    whole = path.read_bytes()
    half = len(whole) // 2
    path.write_bytes(whole[:half] + b"\xff" * 20_000 + whole[half + 20_000 :])
    with pytest.raises(OutputError, match=r"run\.nc: 'discharge' cannot be read"):
        read_output(path, "discharge")


@pytest.mark.parametrize("plant", ["link", "hard link", "fifo", "dangling"])
def test_no_planted_link_is_followed(tmp_path, plant):
    victim, partial = tmp_path / "victim", partial_path(tmp_path / "out.nc")
    victim.write_text("kept")
    if plant == "fifo":
        os.mkfifo(partial)
    elif plant == "hard link":
        os.link(victim, partial)
    else:
        partial.symlink_to(victim if plant == "link" else tmp_path / "nowhere")
    with pytest.raises(OutputError, match=r"out\.nc\.partial: cannot be written"):
        OutputFile(tmp_path / "out.nc", "reach", ["r0"], ["discharge"], DAY, {})
    assert victim.read_text() == "kept" and not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("umask", [0o077, 0o002])
def test_the_mode_is_what_the_umask_leaves(tmp_path, umask):
    before = os.umask(umask)
    try:
        with OutputFile(tmp_path / "out.nc", "reach", ["r0"], ["discharge"], DAY, {}) as file:
            assert partial_path(tmp_path / "out.nc").stat().st_mode & 0o777 == 0o666 & ~umask
            file.append(np.array(["2001-01-01"], "datetime64[s]"), {"discharge": np.ones((1, 1))})
    finally:
        os.umask(before)
    assert (tmp_path / "out.nc").stat().st_mode & 0o777 == 0o666 & ~umask
