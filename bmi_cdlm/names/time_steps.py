"""The model steps there are [s]."""

from __future__ import annotations

DAY, HOUR = 86400, 3600
STEP_NAMES = {DAY: "1 d", HOUR: "1 h"}
