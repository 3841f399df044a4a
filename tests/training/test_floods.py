"""Signatures in the loss: values of the evaluation, their slopes, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training_cases import ALONE, change_training, drawn_trainer, train, write_training_case

from bmi_cdlm.evaluate.evaluation import basin_rain
from bmi_cdlm.evaluate.events import find_events, read_event, read_period
from bmi_cdlm.names.errors import ConfigError, ObservationError
from bmi_cdlm.names.time_steps import DAY
from cdlm_training.fits import descend
from cdlm_training.loop import Trainer

EVENTS, PERIOD = {"Epf": 0.7, "Erc": 0.4}, {"Crc": 0.3, "Cfp2": 0.1, "Cfp10": 0.2, "Cfp50": 0.5, "Cfp90": 0.6}
QUANTILE = 0.6
KEYS = {
    "loss": {"nse": 0, "pet_factor": 0, "events": EVENTS, "signatures": PERIOD, "flood_quantile": QUANTILE},
    "window": 45, "warm_up": 5,
}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Hardly a gap: a flood needs twelve days of observations."""
    return write_training_case(tmp_path_factory.mktemp("floods"), missing=0.01, **KEYS)


def relative(read, weights) -> float:
    """Weighted squares of s / o - 1 of what was read, where it is above 0 as observed."""
    pairs = [(w, read.simulated[n], read.observed[n]) for n, w in weights.items()]
    return sum(w * (s / o - 1) ** 2 for w, s, o in pairs if o > 0)


def test_the_terms_are_those_of_the_evaluation(case):
    trainer = drawn_trainer(case)
    data, window = trainer.data, trainer.data.window(3, 45)
    flow = np.random.default_rng(2).gamma(2.0, 1.0, (45, 4))
    got = trainer.objective.signatures(torch.from_numpy(flow), window, np.arange(4)).numpy()
    rain, counts = basin_rain(trainer.run, data.domain), []
    for g, name in enumerate(data.domain.gauges.id):
        area, record, known = data.area[g], data.observed[:50, g], data.observed[3:48, g]
        events, _ = find_events(rain[name][:50], record, DAY, QUANTILE)
        inside = [e for e in events if e.first >= 3 and e.last < 48]
        counts.append((len(inside), len(events)))
        simulated = np.full(50, np.nan)
        simulated[3:48] = flow[:, g]
        reads = [read_event(e, rain[name], record, simulated, DAY, area) for e in inside]
        expected = relative(read_period(rain[name][3:48], known, flow[:, g], DAY, area), PERIOD)
        expected += sum(relative(read, EVENTS) for read in reads) / max(1, len(reads))
        assert got[g] == pytest.approx(expected, rel=1e-11), name
    assert any(found for found, _ in counts) and any(found < whole for found, whole in counts), counts


def test_gradcheck(case):
    objective = Trainer(case, ALONE).objective
    window = objective.dataset.window(3, 45)
    flow = torch.from_numpy(np.random.default_rng(4).gamma(2.0, 1.0, (45, 2))).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: objective.signatures(x, window, np.array([0, 2])), [flow])


def test_pairs_have_windows_of_their_own(case):
    """A window [time, gauge] is what each gauge's own would be."""
    objective = Trainer(case, ALONE).objective
    data = objective.dataset
    one, other = data.window(0, 45), data.window(4, 45)
    both = one._replace(
        steps=np.stack([one.steps, other.steps], 1), at_gauges=np.stack([one.steps, other.steps], 1)
    )
    flow = torch.from_numpy(np.random.default_rng(4).gamma(2.0, 1.0, (45, 2)))
    got = objective.signatures(flow, both, np.array([0, 3]))
    for k, (window, gauge) in enumerate(((one, 0), (other, 3))):
        assert got[k] == objective.signatures(flow[:, [k]], window, np.array([gauge]))[0]
    assert not torch.equal(got, objective.signatures(flow, one, np.array([0, 3])))


@pytest.mark.parametrize(("keys", "error", "match"), [
    ({"loss": {"events": {"Elt": 1}}}, ConfigError, "loss.events has 'Elt', expected signatures that have a slope: E"),
    ({"loss": {"signatures": {"Crc": 0}}}, ConfigError, "greater than 0"),
    ({"loss": {"events": {"Epf": 1}}, "window": 14}, ConfigError, "window has 336 h, expected at least 360, in which"),
    ({"loss": {"events": {"Epf": 1}}, "train": ["2001-03-01", "2001-03-11"]}, ConfigError,
     "the training period has 240 h, expected at least 360"),
    ({"loss": {"events": {"Epf": 1}, "flood_quantile": 0.9999}, "train": ["2001-03-01", "2001-03-17"]},
     ObservationError, "no gauge has a flood above the quantile 0.9999"),
])
def test_what_no_flood_can_be_found_in_is_refused(case, keys, error, match):
    with pytest.raises(error, match=match):
        Trainer(change_training(case, "refused.yaml", **keys), ALONE)


@pytest.mark.slow
@pytest.mark.parametrize("keys", [{}, {"pairs_per_update": 2}, {"optimizer": "lbfgs", "learning_rate": 1.0}])
def test_a_window_without_a_flood_has_no_slope_and_no_error(case, keys):
    """Where nothing else is in the loss there is nothing to compare: the weights stay for that update."""
    loss = {"nse": 0, "pet_factor": 0, "events": EVENTS, "flood_quantile": QUANTILE}
    path = change_training(case, "none.yaml", loss=loss, weight_decay=0.0, updates=1, epochs=1,
                           output="out/none.safetensors", **keys)
    trainer = Trainer(path, ALONE)
    before = {name: w.detach().clone() for name, w in trainer.generator.named_parameters()}
    trainer.objective.signatures.floods = [[] for _ in trainer.data.gauges]
    losses = []
    trainer.train(resume=False, report=lambda epoch: None, progress=losses.append)
    assert losses == [0.0] and trainer.config.output.is_file()
    assert all((w == before[name]).all() for name, w in trainer.generator.named_parameters())
    other, _, _ = train(path)
    assert any((w != before[name]).any() for name, w in other.generator.named_parameters()), "with floods it learns"


def test_a_fit_to_one_gauge_without_a_flood_stays_where_it_began():
    weight = torch.nn.Parameter(torch.tensor([0.3]))
    assert descend([weight], lambda: torch.zeros((), dtype=torch.float64)) == 0.0
    assert float(weight.detach()) == pytest.approx(0.3)
    assert descend([weight], lambda: ((weight.double() - 2.0) ** 2).sum()) == pytest.approx(0.0, abs=1e-10)
    assert float(weight.detach()) == pytest.approx(2.0, abs=1e-5)
