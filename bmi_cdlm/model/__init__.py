"""The model: a domain, its processes and its state, advanced forward and differentiated backward."""

from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.model import Model

__all__ = ["Forcing", "Model"]
