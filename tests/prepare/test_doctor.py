"""The doctor runs the checks of a preparation before it, with the same words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from toy_basin import change

from bmi_cdlm.doctor import examine
from bmi_cdlm.names.errors import CdlmError
from bmi_cdlm.prepare.run import prepare

for package in ("rasterio", "pyproj", "pyflwdir", "sklearn"):
    pytest.importorskip(package, reason=f"{package} is not installed")


def failing(config: Path) -> str:
    return "\n".join(f.text for f in examine(config) if f.level == "fail" and f.subject == "prepare")


@pytest.mark.parametrize(
    ("block", "keys", "said"),
    [
        ("network", {"resolution": "1 arcmin"}, r"resolution is '1 arcmin', but the grid is in metres"),
        ("network", {"cell_size": "1500 m"}, r"cell_size is '1500 m', 1\.5 by 1\.5 times a block"),
        ("network", {"encoding": "esri"}, r"codes that 'esri' does not have: 3 \(2 pixels\), 5"),
        ("network", {"encoding": "ldd"}, r"T1 drains 2 km2, officially 8.1 km2"),
        ("network", {"elevation": "source/high.tif"}, r"beyond -500 to 9000 m"),
        ("network", {"cell_mask": "source/mask.tif"}, r"leaves none of 8 cells"),
        ("gauges", {"radius": 10, "area_limit": 1e-9}, r"1 find no reach that fits"),
        ("attributes", {"climate": True}, r"the forcing has 2 days, expected 365"),
    ],
)
def test_what_prepare_refuses_the_doctor_refuses_with_the_same_words(
    toy: Path, write_raster: Callable[..., Path], block: str, keys: dict, said: str
) -> None:
    write_raster(toy.parent / "source" / "high.tif", np.full((3, 3), 20_000.0, np.float32))
    write_raster(toy.parent / "source" / "mask.tif", np.zeros((3, 3), np.float32))
    assert failing(toy) == ""
    change(toy, block, **keys)
    with pytest.raises(CdlmError, match=said) as caught:
        prepare(toy)
    assert str(caught.value) in failing(toy)


def test_of_a_large_raster_the_doctor_looks_at_codes_and_sizes(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bmi_cdlm.doctor.preparation.MOST_PIXELS", 8)
    assert failing(toy) == ""
    assert "does not have" in failing(change(toy, "network", encoding="esri"))
    assert "expected an integer" in failing(change(toy, "network", encoding="clockwise", cell_size="1500 m")).lower()


def test_sources_of_files_that_are_made_are_a_note(toy: Path, tmp_path: Path) -> None:
    prepare(toy)
    (tmp_path / "source").rename(tmp_path / "elsewhere")
    assert [f for f in examine(toy) if f.level == "fail"] == []
    assert any("to make them anew" in f.text for f in examine(toy) if f.level == "note")
    (tmp_path / "out" / "forcing.nc").unlink()
    assert "network.directions" in failing(toy)


def test_the_doctor_says_where_prepare_would_not_replace(toy: Path) -> None:
    prepare(toy)
    change(toy, "network", cell_size="3 km")
    assert any("holds another domain" in f.text for f in examine(toy) if f.level == "note")
