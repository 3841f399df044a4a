"""Gauges that do not count: why, and that nothing is scored or learned there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cases import change_config, write_case
from click.testing import CliRunner

from bmi_cdlm.cli import main
from bmi_cdlm.doctor import examine
from bmi_cdlm.evaluate.evaluation import evaluate
from bmi_cdlm.names.errors import ConfigError, ObservationError
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.screening import ScreeningConfig, read_records, screened_out
from bmi_cdlm.run.simulation import Simulation

TABLE = """id,degree_of_regulation,withdrawal,years,regulated
g0,0.05,0.1,4.997,no
g1,0.06,,12,yes
g2,,0.11,12,yes
g3,,,4.9,unknown
g4,,,12,yes
g5,,,12,unknown
"""
IDS = [f"g{k}" for k in range(6)]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "gauges.csv"
    path.write_text(TABLE)
    return path


def test_who_is_left_out_and_why(table: Path) -> None:
    found = screened_out(ScreeningConfig(table=table), IDS)
    assert found == {
        "g1": "degree of regulation 0.06", "g2": "withdrawal 0.11", "g3": "4.9 years of record", "g4": "regulated",
    }
    assert "g5" in screened_out(ScreeningConfig(table=table, unknown="drop"), IDS)
    wide = ScreeningConfig(table=table, degree_of_regulation=0.5, withdrawal=0.5, shortest_record=1)
    assert list(screened_out(wide, IDS)) == ["g4"]
    assert screened_out(None, IDS) == {}


def test_tables_that_are_refused(table: Path) -> None:
    with pytest.raises(ObservationError, match="has no gauge 'g9'"):
        screened_out(ScreeningConfig(table=table), ["g9"])
    with pytest.raises(ObservationError, match="cannot be read"):
        screened_out(ScreeningConfig(table=table.with_name("none.csv")), IDS)
    table.write_text("gauge,name\ng0,x\n")
    with pytest.raises(ObservationError, match=r"expected id \(or gauge\) and one or more of"):
        screened_out(ScreeningConfig(table=table), ["g0"])
    table.write_text("gauge,dams\ng0,lots\n")
    with pytest.raises(ObservationError, match="degree_of_regulation of gauge g0 is lots, expected a number"):
        screened_out(ScreeningConfig(table=table, columns={"degree_of_regulation": "dams"}), ["g0"])


def test_gauges_that_are_left_out_are_not_scored(tmp_path: Path, table: Path) -> None:
    config = write_case(tmp_path, output="run.nc", screening={"table": "gauges.csv"})
    run = load_config(config)
    simulation = Simulation(run)
    simulation.run(lambda steps: None)
    simulation.close()
    whole = {r.gauge_id: r for r in evaluate(load_config(change_config(config, "whole.yaml", screening=None)))}
    found = evaluate(run)
    assert [r.gauge_id for r in found] == ["g0"]
    np.testing.assert_array_equal(found[0].simulated, whole["g0"].simulated)
    assert found[0].scores == pytest.approx(whole["g0"].scores, nan_ok=True)
    told = [one.text for one in examine(config) if one.subject == "screening"]
    assert told == [
        "3 of 4 gauges are left out: g1 (degree of regulation 0.06), g2 (withdrawal 0.11), g3 (4.9 years of record)"
    ]
    _, observed = read_records(run, ["g1", "g0"], run.start, run.end)
    assert np.isnan(observed[:, 0]).all()
    assert np.isfinite(observed[:, 1]).all()
    table.write_text("id,years\n" + "".join(f"g{k},1\n" for k in range(4)))
    assert "every gauge is left out" in " ".join(one.text for one in examine(config) if one.level == "fail")
    with pytest.raises(ConfigError, match="screening leaves out every gauge"):
        evaluate(run)
    said = CliRunner().invoke(main, ["evaluate", str(config)])
    assert said.exit_code == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [("id,years\ng0,1\ng0,12\n", "line 3: 'g0' stands in an earlier line too"),
     ("id,years\n,1\ng0,12\n", "line 2: 'id' is empty"),
     ("id,withdrawal\ng0,-9999\n", "withdrawal of gauge g0 is -9999, expected a number of 0 or more, or nothing"),
     ("id,years\ng0,inf\n", "years of gauge g0 is inf, expected a number"),
     ("id,withdrawal\ng0,12%\n", "withdrawal of gauge g0 is 12%, expected a number"),
     ("id,withdrawal\ng0,0,2\n", "line 2 has 3 values, expected 2"),
     ("id,regulated\ng0,true\n", "regulated of gauge g0 is true, expected yes, no, unknown, or nothing"),
     ("id;years\ng0;12\n", "has the columns id;years; expected id (or gauge) and one or more of"),
     ("id,years,years\ng0,1,12\n", "the column 'years' stands twice")],
)
def test_a_table_that_would_let_a_gauge_pass_is_refused(table: Path, text: str, told: str) -> None:
    table.write_text(text)
    with pytest.raises(ObservationError) as found:
        screened_out(ScreeningConfig(table=table), ["g0"])
    assert told in str(found.value) and "gauges.csv: " in str(found.value)


def test_a_table_of_a_spreadsheet_and_words_in_capitals(table: Path) -> None:
    table.write_bytes("\ufeffid,regulated,years\r\ng0, YES,10\r\ng1,No,10\r\ng2,,10\r\n\r\n".encode())
    assert screened_out(ScreeningConfig(table=table), ["g0", "g1", "g2"]) == {"g0": "regulated"}
    with pytest.raises(ObservationError, match=r"screening.columns: there is no 'yaers'. Did you mean 'years'\?"):
        screened_out(ScreeningConfig(table=table, columns={"yaers": "years"}), ["g0"])
