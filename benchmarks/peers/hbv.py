"""HBV 2.0 of hydrodl2, a differentiable model in torch, on units and days of made-up weather.

As lean as it runs: one parameter set per unit, constant in time, without its own routing, discharge and actual
evapotranspiration kept only. hydrodl2 is free for non-commercial use, and asks at its first import on a terminal.
"""

from __future__ import annotations

from typing import Any

import numpy as np


class Hbv:
    """Runs of HBV 2.0 in float32 on a torch device.

    Raises
    ------
    ImportError
        torch or hydrodl2 is not installed.
    """

    def __init__(self, rain: np.ndarray, demand: np.ndarray, temperature: np.ndarray, device: str = "cpu") -> None:
        import torch
        from hydrodl2 import load_model

        self.torch, n = torch, rain.shape[1]
        torch.set_num_threads(1)
        self.model = load_model("hbv_2")(
            {"warmup": 0, "nmul": 1, "dynamic_params": {}, "routing": False, "full_output": False},
            torch.device(device),
        )

        def place(values: np.ndarray) -> Any:
            return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(device)

        self.inputs = {
            "x_phy": place(np.stack([rain, temperature, demand], axis=-1)), "ac_all": place(np.full(n, 9.0)),
            "elev_all": place(np.full(n, 500.0)),
        }
        drawn = np.random.default_rng(6).uniform(0.2, 0.8, (n, len(self.model.phy_param_names)))
        drawn[:, list(self.model.phy_param_names).index("parRT")] = 0.0  # else small units lose all to deep groundwater
        self.parameters = place(drawn).requires_grad_()
        self.named = {
            name.removeprefix("par"): low + drawn[:, k] * (high - low)
            for k, (name, (low, high)) in enumerate(self.model.parameter_bounds.items())
        }
        """The parameters by HBV's symbols, float64[unit]."""
        self.no_dynamic = place(np.empty((rain.shape[0], n, 0)))
        self.made: Any = None

    @property
    def runoff(self) -> np.ndarray:
        """Of the last forward run, [time, unit] [mm d-1]."""
        return self.made.cpu().numpy()

    @property
    def gradient(self) -> np.ndarray:
        """Of the last run with one, [unit, parameter]."""
        return self.parameters.grad.cpu().numpy()

    def forward(self) -> None:
        """Runoff, without what a gradient would need."""
        with self.torch.no_grad():
            self.made = self._run()

    def both(self) -> None:
        """Runoff, and the gradient of its sum by all parameters."""
        self.parameters.grad = None
        self._run().sum().backward()

    def _run(self) -> Any:
        return self.model(self.inputs, [self.no_dynamic, self.parameters])["streamflow"][..., 0]
