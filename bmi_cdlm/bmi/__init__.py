"""The Basic Model Interface of CSDMS: what pymt, NextGen and grpc4bmi call."""

from bmi_cdlm.bmi.component import BmiCdlm

__all__ = ["BmiCdlm"]
