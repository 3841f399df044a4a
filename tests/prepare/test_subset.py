"""A sub-basin as a case of its own: the same discharge as in the whole run, bit for bit, from its own files."""

from __future__ import annotations

import shutil
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import yaml
from cases import N_STEPS, E, P, T, change_config, opened, simulated, step_all, write_case
from click.testing import CliRunner

from bmi_cdlm.cli import main
from bmi_cdlm.doctor import examine
from bmi_cdlm.domain.domain import cut, read_domain
from bmi_cdlm.domain.network import upstream_of
from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.files.output import read_output
from bmi_cdlm.names.errors import ConfigError, DomainError, UnknownNameError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import variable
from bmi_cdlm.prepare.subset import find_reach, subset
from bmi_cdlm.run.config import load_config

ROOT = Path(__file__).resolve().parents[2]
KEPT = ("discharge", "lateral_inflow", "runoff", "production_store", "snowpack", "outflow_total")


def rows(config, names=KEPT):
    """Every step's values by short name, with ids: float64[time, n]."""
    with opened(config) as component:
        domain = component._stepper.simulation.model.domain
        found = step_all(component, tuple(variable(n).name for n in names))
        return domain, {n: found[variable(n).name] for n in names}


def inner_reach(domain, share=0.4):
    """A reach in the middle of the network that shares cells with the rest."""
    sizes = [upstream_of(domain.reaches.downstream, i) for i in range(domain.n_reaches)]
    sizes = np.array([hi - lo for lo, hi in sizes])
    inside = np.flatnonzero((sizes < domain.n_reaches * share) & (domain.reaches.downstream >= 0))
    return int(inside[sizes[inside].argmax()])


def assert_same_there(whole_config, part_config, names=KEPT):
    whole_domain, whole = rows(whole_config, names)
    part_domain, part = rows(part_config, names)
    for name in names:
        grid = variable(name).grid
        ids = (whole_domain.cells.id, part_domain.cells.id) if grid == "cell" else (
            whole_domain.reaches.id, part_domain.reaches.id)
        places = [ids[0].index(i) for i in ids[1]]
        np.testing.assert_array_equal(part[name], whole[name][:, places], err_msg=name)
    assert (part["discharge"] > 0).any()
    return whole_domain, part_domain


@pytest.mark.parametrize("options", [
    {"step": DAY, "snow": "cemaneige", "spin_up": 1}, {"step": HOUR, "snow": "cemaneige_hysteresis"},
], ids=["daily", "hourly"])
def test_a_sub_basin_has_the_bits_of_the_whole(tmp_path, options):
    config = write_case(tmp_path / "whole", **options)
    domain = read_domain(tmp_path / "whole" / "domain.nc")
    targets = {f"gauge:{g}" for g in domain.gauges.id} | {domain.reaches.id[inner_reach(domain)]}
    shared = 0
    for target in sorted(targets):
        try:
            subset(config, target, tmp_path / target)
        except DomainError as error:
            assert "no cell drains" in str(error)
            continue
        whole, part = assert_same_there(config, tmp_path / target / "case.yaml")
        assert part.reaches.id[-1] == domain.reaches.id[find_reach(domain, target)]
        drained = whole.cells.drained_area[[whole.cells.id.index(i) for i in part.cells.id]]
        shared += int((part.cells.drained_area < drained * (1 - 1e-9)).sum())
        assert part.reaches.upstream_area[-1] == whole.reaches.upstream_area[find_reach(domain, target)]
    assert shared  # cells that drain elsewhere too


def test_it_is_complete_in_its_folder(tmp_path):
    config = write_case(tmp_path / "whole", output="out/gauges.nc", restart="end.nc", training={
        "output": "trained/x.safetensors", "gauges": ["g0", "g1", "g2", "g3"], "train": ["2001-03-01", "2001-03-05"]})
    with simulated(config) as simulation:
        simulation.run()
    domain = read_domain(tmp_path / "whole" / "domain.nc")
    gauge = domain.gauges.id[int(np.argmax([hi - lo for lo, hi in (
        upstream_of(domain.reaches.downstream, r) for r in domain.gauges.reach)]))]
    written = subset(config, gauge, tmp_path / "part")
    assert {p.name for p in written} == {p.name for p in (tmp_path / "part").iterdir()} == {
        "domain.nc", "forcing.nc", "parameters.nc", "observations.nc", "case.yaml"}
    shutil.move(tmp_path / "part", tmp_path / "moved")
    shutil.move(tmp_path / "whole", tmp_path / "elsewhere")
    part = load_config(tmp_path / "moved" / "case.yaml")
    with simulated(tmp_path / "moved" / "case.yaml") as simulation:
        simulation.run()
        inside = simulation.model.domain.gauges.id
    starts, ids, values = read_output(tmp_path / "moved" / "run.nc", "discharge")
    _, whole_ids, whole = read_output(tmp_path / "elsewhere" / "out" / "gauges.nc", "discharge")
    assert gauge in ids and ids == inside
    np.testing.assert_array_equal(values, whole[:, [whole_ids.index(i) for i in ids]])
    _, observed = read_observations(part.observations, ids, part.start, part.end, DAY)
    _, expected = read_observations(tmp_path / "elsewhere" / "observations.nc", ids, part.start, part.end, DAY)
    np.testing.assert_array_equal(observed, expected)
    assert (tmp_path / "moved" / "restart.nc").exists() and len(starts) == N_STEPS[DAY]
    training = yaml.safe_load((tmp_path / "moved" / "case.yaml").read_text())["training"]
    assert training["output"] == "x.safetensors" and training["gauges"] == [g for g in domain.gauges.id if g in inside]


@pytest.mark.parametrize("cut", [True, False], ids=["restart cut too", "restart of the whole"])
def test_states_of_the_whole_go_on_in_the_sub_basin(tmp_path, cut):
    config = write_case(tmp_path / "whole", snow="cemaneige")
    with opened(config) as component:
        component.update_until(4 * DAY)
        component._stepper.simulation.save(tmp_path / "whole" / "middle.nc")
    domain = read_domain(tmp_path / "whole" / "domain.nc")
    target = domain.reaches.id[inner_reach(domain)]
    resumed = change_config(config, initial_state="middle.nc")
    subset(resumed if cut else config, target, tmp_path / "part")
    part = tmp_path / "part" / "changed.yaml" if cut else change_config(
        tmp_path / "part" / "case.yaml", initial_state="../whole/middle.nc")
    assert (tmp_path / "part" / "initial_state.nc").exists() == cut
    assert_same_there(resumed, part)


def test_a_caller_provides_the_forcing_of_a_sub_basin_too(tmp_path):
    config = write_case(tmp_path / "whole", forcing="caller", parameters="default", observations=None,
                        snow="cemaneige")
    domain = read_domain(tmp_path / "whole" / "domain.nc")
    target = domain.reaches.id[inner_reach(domain)]
    assert {p.name for p in subset(config, target, tmp_path / "part")} == {"domain.nc", "case.yaml"}
    rain = np.random.default_rng(1).exponential(9.0, domain.n_cells)
    with opened(config) as whole, opened(tmp_path / "part" / "case.yaml") as part:
        there = part._stepper.simulation.model.domain
        places = [domain.cells.id.index(i) for i in there.cells.id]
        for component, values in ((whole, rain), (part, rain[places])):
            component.set_value(P, values)
            component.set_value(E, 0.1 * values)
            component.set_value(T, np.full(values.size, 5.0))
            component.update_until(3 * DAY)
        flow = variable("discharge").name
        np.testing.assert_array_equal(
            part.get_value_ptr(flow), whole.get_value_ptr(flow)[[domain.reaches.id.index(i) for i in there.reaches.id]])


def test_files_without_ids_are_in_the_order_of_the_domain(tmp_path):
    config = write_case(tmp_path / "whole")
    with netCDF4.Dataset(tmp_path / "whole" / "forcing.nc", "a") as dataset:
        dataset.renameVariable("cell_id", "number")
    domain = read_domain(tmp_path / "whole" / "domain.nc")
    subset(config, domain.reaches.id[inner_reach(domain)], tmp_path / "part")
    assert_same_there(config, tmp_path / "part" / "case.yaml", ("discharge", "runoff", "outflow_total"))


@pytest.mark.parametrize("at", ["gauges", "reaches", ["r3", "r5"]], ids=["gauges", "reaches", "ids"])
def test_where_it_writes_lies_inside(tmp_path, at):
    config = write_case(tmp_path / "whole", output="run.nc", output_at=at)
    domain = read_domain(tmp_path / "whole" / "domain.nc")
    for reach in range(domain.n_reaches):
        lo, hi = upstream_of(domain.reaches.downstream, reach)
        links = domain.links.first[hi] - domain.links.first[lo]
        if links and not ((domain.gauges.reach >= lo) & (domain.gauges.reach < hi)).any():
            break
    name = domain.reaches.id[reach]
    written = subset(config, name, tmp_path / "part")
    assert "observations.nc" not in {p.name for p in written}
    with simulated(tmp_path / "part" / "case.yaml") as simulation:
        simulation.run()
    assert name in read_output(tmp_path / "part" / "run.nc", "discharge")[1]


def test_what_cannot_be_cut_is_refused_and_nothing_is_written(tmp_path):
    config = write_case(tmp_path / "whole")
    for wrong, message in (("g9", "Did you mean 'g"), ("gauge:r3", "no gauge or reach"), ("reach:g0", "no gauge")):
        with pytest.raises(UnknownNameError, match=message):
            subset(config, wrong, tmp_path / "part")
    with pytest.raises(ConfigError, match="overwrite"):
        subset(config, "g0", tmp_path / "whole")
    domain = read_domain(tmp_path / "whole" / "domain.nc")
    dry = next(i for i in range(domain.n_reaches) if domain.links.first[i] == domain.links.first[i + 1]
               and upstream_of(domain.reaches.downstream, i)[0] == i)
    with pytest.raises(DomainError, match="no cell drains to reach"):
        subset(config, domain.reaches.id[dry], tmp_path / "part")
    assert not (tmp_path / "part").exists()


def test_an_id_of_a_gauge_and_of_a_reach(tmp_path):
    domain = read_domain(write_case(tmp_path).parent / "domain.nc")
    other = next(i for i in range(domain.n_reaches) if i != domain.gauges.reach[0])
    both = domain._replace(reaches=domain.reaches._replace(
        id=[domain.gauges.id[0] if i == other else name for i, name in enumerate(domain.reaches.id)]))
    with pytest.raises(UnknownNameError, match="Say gauge:g0 or reach:g0"):
        find_reach(both, "g0")
    assert find_reach(both, "gauge:g0") == domain.gauges.reach[0]
    assert find_reach(both, "reach:g0") == other


def test_too_much_area_without_a_cell_above_a_cut_is_refused(tmp_path):
    """Within the whole it is less than 2 %, above this reach it is more."""
    config = write_case(tmp_path / "whole")
    domain = read_domain(tmp_path / "whole" / "domain.nc")
    reach = inner_reach(domain, 0.2)
    with netCDF4.Dataset(tmp_path / "whole" / "domain.nc", "a") as dataset:
        hole = dataset.createVariable("reach_uncovered_area", "f8", ("reach",))
        hole.units = "km2"
        values = np.zeros(domain.n_reaches)
        values[domain.file_order[reach]] = 0.03 * domain.reaches.upstream_area[reach]
        hole[:] = values
    try:
        read_domain(tmp_path / "whole" / "domain.nc")
    except DomainError:
        pytest.skip("a gauge of this domain sees the hole too")
    with pytest.raises(DomainError, match="no cell covers"):
        subset(config, domain.reaches.id[reach], tmp_path / "part")


def test_the_command(tmp_path):
    config = write_case(tmp_path / "whole")
    good = CliRunner().invoke(main, ["subset", str(config), "g1", "--to", str(tmp_path / "part")])
    assert good.exit_code == 0, good.output
    assert good.output.count("wrote ") == 5
    bad = CliRunner().invoke(main, ["subset", str(config), "nowhere", "--to", str(tmp_path / "part")])
    assert bad.exit_code == 1 and "no gauge or reach 'nowhere'" in bad.output


@pytest.mark.slow
@pytest.mark.smash
def test_a_checkpoint_gives_the_same_in_a_sub_basin_of_the_lez(tmp_path, prepared):
    shutil.copytree(prepared("lez"), tmp_path / "lez")
    content = yaml.safe_load((ROOT / "cfg" / "lez.yaml").read_text())
    content["parameters"] = str(ROOT / "examples" / "lez.safetensors")
    config = tmp_path / "lez.yaml"
    config.write_text(yaml.safe_dump(content))
    gauges = read_domain(tmp_path / "lez" / "domain.nc").gauges.id
    for gauge in gauges:
        assert "parameters.safetensors" in {p.name for p in subset(config, gauge, tmp_path / gauge)}
        assert_same_there(config, tmp_path / gauge / "lez.yaml", ("discharge", "pet_factor", "runoff"))


def test_what_makes_the_whole_stays_behind_and_a_list_of_reaches_comes_along(tmp_path):
    """A copied block `prepare` made the doctor fail, and would have put the whole in the place of the part."""
    config = write_case(tmp_path / "whole", prepare={"network": {"directions": "flow.tif", "extent": "all"}})
    domain = read_domain(tmp_path / "whole" / "domain.nc")
    gauge = domain.gauges.id[0]
    part, *_ = cut(domain, int(domain.gauges.reach[0]))
    outside = next(i for i in domain.reaches.id if i not in part.reaches.id)
    (tmp_path / "whole" / "ids.txt").write_text("\n".join([part.reaches.id[0], outside]))
    content = yaml.safe_load(config.read_text()) | {"output_at": "ids.txt", "output": "out.nc"}
    config.write_text(yaml.safe_dump(content))
    subset(config, f"gauge:{gauge}", tmp_path / "part")
    found = load_config(tmp_path / "part" / "case.yaml")
    assert found.prepare is None
    assert found.output_at == (part.reaches.id[0],)
    assert [f.text for f in examine(tmp_path / "part" / "case.yaml") if f.level == "fail"] == []
