"""Where a training runs: on the host's processors, or on a CUDA device. The one place that chooses operators.

Under numba's simulator (NUMBA_ENABLE_CUDASIM=1) the CUDA kernels run on the host, on torch's tensors there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.operators import Operators
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.run.config import Config
from cdlm_training.config import DeviceName

if TYPE_CHECKING:
    from bmi_cdlm.model.operators_cuda import CudaOperators

REMEDY = "Set training.device: cpu; or, where there is a CUDA device, install torch built for CUDA and bmi-cdlm[gpu]."


def choose_device(name: DeviceName) -> torch.device:
    """Return where tensors live; on a machine with several devices, the one of this process under torchrun.

    Raises
    ------
    ConfigError
        A CUDA device is asked for and there is none for this process, or torch or numba cannot use it.
    """
    if name == "cpu":
        return torch.device("cpu")
    try:
        from numba import cuda

        from bmi_cdlm.kernels.device.launch import SIMULATED
    except ImportError as cause:
        raise ConfigError(f"training.device is cuda, but numba.cuda cannot be imported ({cause}). {REMEDY}") from cause
    if SIMULATED:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        raise ConfigError(
            f"training.device is cuda, but torch {torch.__version__}, {built}, finds no CUDA device here. {REMEDY}"
        )
    if not cuda.is_available():
        raise ConfigError(f"training.device is cuda, which torch can use here, but numba cannot. {REMEDY}")
    own, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if own >= count:
        raise ConfigError(
            f"training.device is cuda, and this is process {own + 1} on a machine with {count} of them. Start torchrun "
            f"with --nproc-per-node {count}."
        )
    torch.cuda.set_device(own)
    cuda.select_device(own)
    return torch.device("cuda", own)


def make_operators(
    run: Config, domain: Domain, dtype: type[np.floating], device: DeviceName, workers: Workers,
    varying: Sequence[str] = (), part_of: Domain | None = None,
) -> Operators | CudaOperators:
    """Operators of a run's processes over a domain, or a part of one, for tensors on a device.

    The workers are those of the host.
    """
    components = {run.runoff: run.components}
    if device == "cpu":
        return Operators(
            run.chain, domain, run.time_step, run.routing_step, dtype, workers, varying=varying, components=components,
            part_of=part_of,
        )
    from bmi_cdlm.model.operators_cuda import CudaOperators

    return CudaOperators(
        run.chain, domain, run.time_step, run.routing_step, dtype, stream=current_stream,
        empty=allocate_on(choose_device(device)), varying=varying, components=components,
    )


def allocate_on(device: torch.device) -> Callable[[tuple[int, ...], Any], torch.Tensor]:
    """Return an allocator, empty(shape, dtype) with a dtype of numpy, from torch's own memory on a device."""

    def empty(shape: tuple[int, ...], dtype: Any) -> torch.Tensor:
        precision = torch.float32 if np.dtype(dtype) == np.float32 else torch.float64
        return torch.empty(shape, dtype=precision, device=device)

    return empty


def current_stream() -> Any:
    """Return torch's current stream, which backward sets to that of its forward, as a stream of numba."""
    return _as_numba_stream(torch.cuda.current_stream().cuda_stream)


@lru_cache(maxsize=64)
def _as_numba_stream(pointer: int) -> Any:
    from numba import cuda

    return cuda.external_stream(pointer)
