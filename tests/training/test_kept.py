"""What is kept of fits that are done, and what is told of a training at its end."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bmi_cdlm.generator.specification import Target
from cdlm_training.findings import against_bounds, left_over, spread_of
from cdlm_training.fits import Fit
from cdlm_training.kept import held, keep
from cdlm_training.search import curve, told


def test_what_was_kept_comes_back_under_its_identity_alone(tmp_path: Path):
    path = tmp_path / "fit.npz"
    assert held(path, "a".__eq__) is None, "nothing was done"
    keep(path, "a", z=np.arange(3.0), steps=7)
    found = held(path, "a".__eq__)
    assert found is not None and set(found) == {"z", "steps"} and int(found["steps"]) == 7
    np.testing.assert_array_equal(found["z"], np.arange(3.0))
    assert held(path, "b".__eq__) is None and held(path, "".__eq__) is None
    keep(path, "b", z=np.ones(1))
    assert held(path, "a".__eq__) is None and held(path, "b".__eq__) is not None, "the last is kept"
    assert [p.name for p in tmp_path.iterdir()] == ["fit.npz"]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.98])
def test_half_a_file_is_done_again(tmp_path: Path, share: float):
    path = tmp_path / "fit.npz"
    keep(path, "a", z=np.arange(300.0))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert held(path, "a".__eq__) is None
    path.write_bytes(b"PK no archive")
    assert held(path, "a".__eq__) is None
    np.savez(path, z=np.ones(2))
    assert held(path, "a".__eq__) is None, "of another hand"


def trainer(n: int, window: int, optimizer: str = "lbfgs") -> SimpleNamespace:
    """What `left_over` asks of a trainer, over n steps."""
    windows = [SimpleNamespace(counted=min(window, n)) for _ in range(0, n - min(window, n) + 1, min(window, n))]
    return SimpleNamespace(
        config=SimpleNamespace(optimizer=optimizer, train=None), all_windows=lambda: windows,
        data=SimpleNamespace(steps_of=lambda period: slice(10, 10 + n)),
    )


@pytest.mark.parametrize(("n", "window", "rest"), [(700, 365, 335), (730, 365, 0), (1000, 365, 270), (300, 365, 0)])
def test_steps_that_no_window_of_lbfgs_holds_are_told(n, window, rest):
    said = left_over(trainer(n, window))  # type: ignore[arg-type]
    assert bool(said) == bool(rest)
    if rest:
        assert f"the last {rest} of {n} steps" in said[0] and f"{n // window} of {window} steps" in said[0]
    assert not left_over(trainer(n, window, "adamw"))  # type: ignore[arg-type]


def test_a_rest_below_a_tenth_is_not_worth_a_word():
    assert not left_over(trainer(1460 + 20, 365))  # type: ignore[arg-type]
    assert left_over(trainer(1460 + 200, 365))  # type: ignore[arg-type]


def test_parameters_at_their_bounds_are_told_on_their_scale():
    """Six hundredths of the range, of the logarithm where a parameter moves by it, are its edge."""
    spec = SimpleNamespace(cell=SimpleNamespace(targets=[
        Target("production_capacity", 1.0, 3000.0, 300.0, "log"),
        Target("exchange_coefficient", -10.0, 5.0, 0.1, "linear"),
    ]), reach=SimpleNamespace(targets=[Target("celerity", 0.1, 5.0, 1.0, "log")]))
    middle = {
        "production_capacity": np.full(20, 3000.0**0.5), "exchange_coefficient": np.full(20, 0.0),
        "celerity": np.full(9, 1.0),
    }
    assert not against_bounds(spec, middle)  # type: ignore[arg-type]
    low, high = 3000.0**0.059, 3000.0**0.061
    for value, share in ((low, 0.1), (high, 0.0)):
        own = middle["production_capacity"].copy()
        own[:2] = value
        said = against_bounds(spec, middle | {"production_capacity": own})  # type: ignore[arg-type]
        assert bool(said) == bool(share)
    assert "10 % of cells" in against_bounds(spec, middle | {  # type: ignore[arg-type]
        "production_capacity": np.r_[[low, low], np.full(18, 50.0)]
    })[0]
    said, = against_bounds(spec, middle | {"celerity": np.full(9, 4.99)})  # type: ignore[arg-type]
    assert said.startswith("celerity learned against its upper bound of 5 m s-1: 100 % of reaches")
    assert "training.ranges: {celerity: [...]}" in said
    said, = against_bounds(spec, middle | {"exchange_coefficient": np.full(20, -9.9)})  # type: ignore[arg-type]
    assert "lower bound of -10" in said


def test_the_spread_of_several_fits_is_told_best_first():
    fits = [
        Fit(3, 2, score, 0.1, {"celerity": celerity, "weighting": 0.25})
        for score, celerity in ((0.5, 1.0), (0.8, 2.0), (0.7, 0.5))
    ]
    said, = spread_of(fits, "median_kge")
    assert said == (
        "3 fits, each begun elsewhere, ended at median KGE 0.8000, 0.7000, 0.5000; means of celerity 0.5 to 2."
    )
    assert not spread_of(fits[:1], "nse")


def test_the_curve_has_gain_and_cost_as_shares_of_the_largest():
    fits = [Fit.new(w)._replace(cost=c, penalty=p) for w, c, p in ((0.0, 1.0, 9.0), (0.1, 2.0, 5.0), (1.0, 5.0, 1.0))]
    gain, cost = curve(fits)
    np.testing.assert_allclose(gain, [1.0, 0.75, 0.0])
    np.testing.assert_allclose(cost, [1.0, 0.5, 0.0])
    same = [Fit.new(w)._replace(cost=1.0, penalty=2.0) for w in (0.0, 0.1)]
    assert not np.any(curve(same)), "fits that are alike have no curve, and no division by nothing"
    assert told(fits, 1)[0].startswith("the regularisation weighs 0.1, of 3 fits;")
    assert "0.1: 2, 5; 1: 5, 1." in told(fits, 1)[0]


def test_a_fit_keeps_its_best_epoch():
    fit = Fit.new(0.5)
    for score, loss in ((0.1, 3.0), (0.4, 2.0), (0.3, 1.0), (float("nan"), 0.5)):
        fit = fit.after(score, loss, lambda score=score: {"celerity": score})
    assert (fit.epochs, fit.best_epoch, fit.score, fit.loss) == (4, 2, 0.4, 2.0)
    assert fit.parameters == {"celerity": 0.4} and fit.weight == 0.5
