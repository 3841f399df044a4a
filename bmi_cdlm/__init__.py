"""CDLM: a distributed hydrological model with a CSDMS Basic Model Interface."""

from bmi_cdlm.bmi import BmiCdlm
from bmi_cdlm.model.model import Model
from bmi_cdlm.version import __version__

__all__ = ["BmiCdlm", "Model", "__version__"]
