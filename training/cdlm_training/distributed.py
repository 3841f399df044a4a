"""Several processes: work is dealt out item by item, gradients are summed, every process takes the same step."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from cdlm_training.config import DeviceName
from cdlm_training.device import choose_device

Item = TypeVar("Item")


class Team(NamedTuple):
    """This process among those that torchrun started; alone, rank 0 of 1."""

    rank: int
    size: int

    @property
    def leads(self) -> bool:
        """Whether this process writes, logs and validates."""
        return self.rank == 0

    def share(self, items: Sequence[Item], work: Sequence[float]) -> list[Item]:
        """The items that fall to this process: the largest first, each to the process that has the least so far."""
        loads, own = [0.0] * self.size, []
        for i in sorted(range(len(items)), key=lambda i: -work[i]):
            taker = loads.index(min(loads))
            loads[taker] += work[i]
            if taker == self.rank:
                own.append(i)
        return [items[i] for i in sorted(own)]

    def add_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Sum the gradients over all processes, in float64."""
        if self.size == 1:
            return
        for parameter in parameters:
            own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            total = own.double()
            dist.all_reduce(total)
            parameter.grad = total.to(parameter.dtype)

    def total(self, value: float) -> float:
        """Sum of a number over all processes."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(total)
        return float(total)

    def from_leader(self, value: float) -> float:
        """The leader's number, on every process."""
        if self.size == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64)
        dist.broadcast(shared, src=0)
        return float(shared)


@contextmanager
def team(device: DeviceName = "cpu") -> Iterator[Team]:
    """Join the processes that torchrun started: numbers travel by gloo, tensors on CUDA devices by nccl.

    Raises
    ------
    ConfigError
        There is no such device for this process.
    """
    place = choose_device(device)
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Team(0, 1)
        return
    # The others wait while the leader validates the whole domain, which may take longer than the 30 minutes of torch.
    dist.init_process_group("cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo", timeout=timedelta(days=1))
    try:
        here = Team(dist.get_rank(), dist.get_world_size())
        yield here
        # The process that holds the store must not leave before the others have: gloo aborts in that case.
        here.total(0.0)
    finally:
        dist.destroy_process_group()
