"""CDLM: a distributed hydrological model with a CSDMS Basic Model Interface."""

from bmi_cdlm.names.environment import mend_environment

mend_environment()  # before anything imports numba

from bmi_cdlm.bmi import BmiCdlm  # noqa: E402
from bmi_cdlm.model.model import Model  # noqa: E402
from bmi_cdlm.version import __version__  # noqa: E402

__all__ = ["BmiCdlm", "Model", "__version__"]
