"""What the model refuses of its steps, components and adjoints, before anything is calculated."""

from __future__ import annotations

import re

import numpy as np
import pytest
from make_domain import random_domain, random_forcing

from bmi_cdlm.model.checks import check_components, check_steps
from bmi_cdlm.model.model import Model
from bmi_cdlm.names.errors import ConfigError, StateError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.catalogue import choose


@pytest.mark.parametrize(("step", "routing_step", "message"), [
    (7200, HOUR, "time_step is 7200 s, expected 86400 s (1 d) or 3600 s (1 h): GR4J has constants for these only."),
    (DAY, 7 * HOUR, "routing_step is 25200 s, expected a divisor of the time step of 86400 s, such as 3600 s"),
    (DAY, 0, "routing_step is 0 s, expected a divisor"), (HOUR, -HOUR, "routing_step is -3600 s, expected a divisor"),
    (HOUR, DAY, "routing_step is 86400 s, expected a divisor of the time step of 3600 s"),
])
def test_steps_that_the_processes_do_not_offer(step, routing_step, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_steps(choose(), step, routing_step)


@pytest.mark.parametrize(("components", "message"), [
    ({"gr4": 2}, "components: there is no process 'gr4' of cells here. Did you mean 'gr4j'? There are: gr4j."),
    ({"muskingum": 2}, "components: there is no process 'muskingum' of cells here."),
    ({"gr4j": 0}, "components: 'gr4j' has 0, expected a whole number of parameter sets, 1 or more."),
    ({"gr4j": 2.0}, "components: 'gr4j' has 2.0, expected a whole number"),
    ({"gr4j": True}, "components: 'gr4j' has True, expected a whole number"),
])
def test_components_that_cannot_be(components, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_components(choose(), components)
    check_components(choose(), {"gr4j": np.int64(3)})


def test_an_adjoint_of_another_shape_and_of_nothing():
    domain = random_domain(3, 9, 5)
    model, forcing = Model(domain), random_forcing(2, 4, 5)
    with pytest.raises(StateError, match=r"there is no recording to go back over\. Call record\(forcing\) first"):
        model.adjoint(np.zeros((4, 9)))
    model.record(forcing)
    for shape in ((4,), (9, 4), (5, 9)):
        with pytest.raises(StateError, match=re.escape(f"discharge_adj has shape {shape}, expected (4, 9): [time, r")):
            model.adjoint(np.zeros(shape))
    assert not any(a.any() for a in model.adjoint(np.zeros((4, 9))).parameters.values())
    model.change_parameter("celerity", np.array([0]), np.array([0.7]))
    with pytest.raises(StateError, match="there is no recording"):  # it is of other parameters
        model.adjoint(np.zeros((4, 9)))
