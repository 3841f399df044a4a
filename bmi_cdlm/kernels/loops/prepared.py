"""Loops that fill what is prepared once for many steps, and their adjoints: prepared values, ordinates of queues."""

from __future__ import annotations

import types
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from bmi_cdlm.kernels.adjoint import derive
from bmi_cdlm.kernels.loops.elementwise import is_arithmetic
from bmi_cdlm.kernels.loops.routing import real
from bmi_cdlm.kernels.loops.source import arguments_of, make_functions
from bmi_cdlm.kernels.marks import whole_arrays
from bmi_cdlm.names.declaration import Prepared, Queue


class Head(NamedTuple):
    """How a loop over n places i begins, what that calls, and what the title of the text ends with."""

    text: str
    known: Mapping[str, Any]
    title: str

    def of(self, n: str) -> str:
        """The beginning of the loop over n places."""
        return self.text.format(n=n)


EVERY_PLACE = Head("for i in range({n}):", {}, "")


class Filler(NamedTuple):
    """Loops of a prepared value: fill(*arrays of `takes`, step, *arrays of what it returns); adjoint(*arrays of
    `takes`, step, *adjoints of `seeds`, *adjoints of `active`), the last added to."""

    takes: tuple[str, ...]
    returns: tuple[str, ...]
    fill: types.FunctionType
    adjoint: types.FunctionType
    seeds: tuple[str, ...]
    active: tuple[str, ...]


def fill_loops(
    prepared: Prepared, constants: Collection[str], passive: Collection[str], head: Head = EVERY_PLACE
) -> Filler:
    """Return the loops of a prepared value.

    constants, passive : symbols of numbers of the step, and of attributes of the domain, which nobody learns; head :
    how the loops begin.
    """
    arguments = arguments_of(prepared.step)
    takes = tuple(a for a in arguments if a not in constants)
    active = prepared.active or tuple(a for a in takes if a not in passive)
    seeds = prepared.seeds or prepared.returns
    adjoint = prepared.adjoint
    if adjoint is None and active:
        places = {prepared.returns.index(s): f"{s}_adj" for s in seeds}
        adjoint = derive(prepared.step, active, places, name=f"{prepared.step.__name__}_adjoint")
    name = prepared.step.__name__
    known: dict[str, Any] = {name: prepared.step, **head.known}
    whole = head is EVERY_PLACE and is_arithmetic(prepared.step)
    values = ", ".join(f"step.{a}" if a in constants else a if whole else f"{a}[i]" for a in arguments)
    heads = ", ".join((*takes, "step", *(f"{s}_filled" for s in prepared.returns)))
    filled = ", ".join(f"{s}_filled[{':' if whole else 'i'}]" for s in prepared.returns)
    body = f"{filled} = {name}({values})"
    if not whole:
        body = head.of(f"{prepared.returns[0]}_filled.size") + "\n        " + body
    text = f'''
def fill_{name}({heads}):
    """{name} of every place."""
    {body}


def fill_{name}_adjoint({", ".join((*takes, "step", *(f"{s}_adj" for s in seeds), *(f"{a}_sum" for a in active)))}):
    """Adjoint of `fill_{name}`: added to."""
    {head.of(f"{seeds[0]}_adj.size")}
'''
    if adjoint is None:
        text += "        pass\n"
    else:
        known[adjoint.__name__] = adjoint
        given = [
            f"step.{a}" if a in constants else f"{a}[i]" for a in arguments_of(adjoint)
        ]
        results = ", ".join(f"d_{a}" for a in active)
        text += f"        {results} = {adjoint.__name__}({', '.join(given)})\n"
        text += "".join(f"        {a}_sum[i] += d_{a}\n" for a in active)
    made = make_functions(text, f"prepared {name}{head.title}", known)
    fill, fill_adjoint = made[f"fill_{name}"], made[f"fill_{name}_adjoint"]
    if whole:
        whole_arrays(fill)
    return Filler(takes, prepared.returns, fill, fill_adjoint, seeds, active)


def ordinate_loops(queue: Queue, constants: Collection[str], head: Head = EVERY_PLACE) -> Filler:
    """Return the loops that fill the ordinates of a queue, float[place, cell], from symbols of its form."""
    if queue.weight is not None:
        return weight_loops(queue.weight, constants, head)
    assert queue.curve is not None and queue.adjoint is not None
    arguments = arguments_of(queue.curve)[1:]
    takes = tuple(a for a in arguments if a not in constants)
    values = ", ".join(f"step.{a}" if a in constants else f"{a}[i]" for a in arguments)
    curve, adjoint = queue.curve.__name__, queue.adjoint.__name__
    results = ", ".join(f"d_{a}" for a in takes)
    adding = "\n".join(f"            {a}_sum[i] += d_{a}" for a in takes)
    text = f'''
def fill_ordinates({", ".join(takes)}, step, ordinates):
    """Ordinates of a queue, float[place, cell]; each cell's sum to one."""
    {head.of("ordinates.shape[1]")}
        for k in range(ordinates.shape[0]):
            ordinates[k, i] = {curve}(real(k + 1), {values}) - ({curve}(real(k), {values}) if k > 0 else 0.0)


def fill_ordinates_adjoint({", ".join(takes)}, step, ordinates_adj, {", ".join(f"{a}_sum" for a in takes)}):
    """Adjoint of `fill_ordinates`: added to."""
    {head.of("ordinates_adj.shape[1]")}
        for k in range(ordinates_adj.shape[0]):
            above = ordinates_adj[k + 1, i] if k + 1 < ordinates_adj.shape[0] else 0.0
            {results} = {adjoint}(real(k + 1), {values}, ordinates_adj[k, i] - above)
{adding}
'''
    known = {curve: queue.curve, adjoint: queue.adjoint, "real": real, **head.known}
    made = make_functions(text, f"ordinates by {curve}{head.title}", known)
    return Filler(takes, ("ordinates",), made["fill_ordinates"], made["fill_ordinates_adjoint"], ("ordinates",), takes)


def weight_loops(weight: Callable, constants: Collection[str], head: Head = EVERY_PLACE) -> Filler:
    """Return the loops that fill the ordinates of a queue in proportion to a weight; its adjoint is derived."""
    step, arguments = arguments_of(weight)[0], arguments_of(weight)[1:]
    takes = tuple(a for a in arguments if a not in constants)
    adjoint, name = derive(weight, takes, {0: "weight_adj"}), weight.__name__

    def given(names: Collection[str]) -> str:
        own = {step: "real(k)", "weight_adj": "(ordinates_adj[k, i] - mean) / total"}
        return ", ".join(own.get(a, f"step.{a}" if a in constants else f"{a}[i]") for a in names)

    results = ", ".join(f"d_{a}" for a in takes)
    adding = "\n".join(f"            {a}_sum[i] += d_{a}" for a in takes)
    text = f'''
def fill_ordinates({", ".join(takes)}, step, ordinates):
    """Ordinates of a queue, float[place, cell]; each cell's sum to one."""
    {head.of("ordinates.shape[1]")}
        total = real(0)
        for k in range(ordinates.shape[0]):
            ordinates[k, i] = {name}({given((step, *arguments))})
            total += ordinates[k, i]
        for k in range(ordinates.shape[0]):
            ordinates[k, i] /= total


def fill_ordinates_adjoint({", ".join(takes)}, step, ordinates_adj, {", ".join(f"{a}_sum" for a in takes)}):
    """Adjoint of `fill_ordinates`: added to. What moves all weights alike moves nothing."""
    {head.of("ordinates_adj.shape[1]")}
        total, mean = real(0), real(0)
        for k in range(ordinates_adj.shape[0]):
            one = {name}({given((step, *arguments))})
            total += one
            mean += one * ordinates_adj[k, i]
        mean /= total
        for k in range(ordinates_adj.shape[0]):
            {results} = {adjoint.__name__}({given(arguments_of(adjoint))})
{adding}
'''
    known = {name: weight, adjoint.__name__: adjoint, "real": real, **head.known}
    made = make_functions(text, f"ordinates by {name}{head.title}", known)
    return Filler(takes, ("ordinates",), made["fill_ordinates"], made["fill_ordinates_adjoint"], ("ordinates",), takes)
