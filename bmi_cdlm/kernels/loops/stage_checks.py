"""What a declaration of a cell process must be to fit its steps, checked before any loop is written."""

from __future__ import annotations

from typing import NoReturn

from bmi_cdlm.kernels.loops.source import arguments_of, returned_count
from bmi_cdlm.kernels.loops.stages import CellStages
from bmi_cdlm.names.declaration import PRECIPITATION, Stage
from bmi_cdlm.names.errors import DeclarationError

RESERVED = {
    "block", "cuda", "every", "first", "fluxes", "given_at", "hi", "i", "inputs", "inputs_adj", "j", "last", "lo", "n",
    "n_steps", "np", "out", "out_adj", "p", "p_adj", "place", "rain", "real", "rows", "shift", "start", "starts",
    "state", "state_adj", "step", "t", "tape", "totals", "waste", "width",
}
"""Names of the loops' own, which can be no symbols."""


def check_stages(plan: CellStages) -> None:
    """Refuse a declaration that does not fit its steps.

    Raises
    ------
    DeclarationError
        Naming the process, what is wrong with it and what to correct.
    """
    _check_varying(plan)
    _check_symbols(plan)
    _check_order(plan)
    _check_given(plan)
    _check_queues(plan)
    _check_stores(plan)
    _check_ledger(plan)


def _symbols(plan: CellStages) -> list[str]:
    """Symbols that are there before any stage."""
    return [*plan.stores, *plan.inputs, *plan.fixed, *plan.varying_symbols, *plan.numbers]


def _check_symbols(plan: CellStages) -> None:
    """Refuse a symbol that stands for two things, or that the loops use."""
    symbols = [*_symbols(plan), *(q.gives for q in plan.process.queues.values())]
    for symbol in symbols:
        if symbols.count(symbol) > 1:
            _refuse(plan, f"the symbol '{symbol}' stands for {symbols.count(symbol)} things. Give each its own")
        if symbol in RESERVED or not symbol.isidentifier():
            _refuse(plan, f"'{symbol}' cannot be a symbol: the loops use that name. Choose another")


def _check_order(plan: CellStages) -> None:
    """Refuse a step that takes what is not there yet, or does not return what is declared."""
    known, handed_on = set(_symbols(plan)), set[str]()
    for stage in plan.process.stages:
        for a in plan.queued_into(stage):
            queue = plan.process.queues[plan.queue_of[a]]
            if queue.takes not in handed_on:
                _refuse(
                    plan, f"queue '{plan.queue_of[a]}' takes '{queue.takes}', which no stage before "
                    f"'{stage.step.__name__}' returns. Correct its 'takes'"
                )
            known.add(a)
        for a in plan.takes(stage):
            if a not in known:
                _refuse(
                    plan, f"step '{stage.step.__name__}' takes '{a}', which is no store, input, parameter, prepared "
                    f"value, constant or result of an earlier stage. Known here: {', '.join(sorted(known))}"
                )
        _check_returns(plan, stage)
        known |= set(stage.returns)
        handed_on |= set(stage.returns) - set(plan.stores) - {plan.gives}


def _check_given(plan: CellStages) -> None:
    """Refuse what no stage returns: what the process gives, fluxes, stores; and stores that cannot be kept."""
    process = plan.process
    given = [r for stage in process.stages for r in stage.returns]
    if given.count(plan.gives) != 1:
        _refuse(
            plan, f"'{plan.gives}', what the process gives, is returned {given.count(plan.gives)} times, expected "
            "once. Correct 'gives' or 'returns'"
        )
    for name, flux in process.fluxes.items():
        if flux.symbol not in given and flux.symbol not in plan.queue_of:
            _refuse(plan, f"flux '{name}' is '{flux.symbol}', which no stage returns. Correct its symbol")
    for name, store in process.stores.items():
        if store.symbol not in given:
            _refuse(plan, f"store '{name}' is '{store.symbol}', which no stage returns. Correct its symbol")
        if store.holds_water and store.units != "mm":
            _refuse(
                plan, f"store '{name}' holds water in '{store.units}', expected 'mm': the ledger adds up depths. "
                "Convert it, or set holds_water=False"
            )
        if store.at_most is not None and store.at_most not in plan.parameters:
            _refuse(plan, f"store '{name}' is at most '{store.at_most}', which is no parameter. Correct at_most")
        if store.start_of is not None and store.start_of not in plan.fixed:
            _refuse(
                plan, f"store '{name}' starts from '{store.start_of}', which is no parameter or prepared value. "
                "Correct start_of"
            )


def _check_queues(plan: CellStages) -> None:
    """Refuse a queue that gives to none or several steps, or is not fully declared."""
    for name, queue in plan.process.queues.items():
        takers = [stage.step.__name__ for stage in plan.process.stages if queue.gives in plan.takes(stage)]
        if len(takers) != 1:
            _refuse(
                plan, f"queue '{name}' gives '{queue.gives}' to {len(takers)} steps, expected one, which may "
                "hand it on. Correct its 'gives', or the arguments of the steps"
            )
        if queue.base not in plan.parameters:
            _refuse(plan, f"queue '{name}' has the base '{queue.base}', which is no parameter here. Correct it")
        if (queue.curve is None) is (queue.weight is None) or (queue.curve is None) is not (queue.adjoint is None):
            _refuse(plan, f"queue '{name}' needs a curve and its adjoint, or a weight. Give it one of the two")


def _check_ledger(plan: CellStages) -> None:
    """Refuse a total that is added to on both sides of a queue: in another order in blocks than step by step; and water
    of a process of precipitation that is neither taken nor given."""
    process = plan.process
    if process.gives[0] == PRECIPITATION:
        held = [f"store '{name}' holds water" for name, s in process.stores.items() if s.holds_water]
        held += [f"queue '{name}' holds water" for name in process.queues]
        held += [
            f"flux '{name}' is '{flux.ledger}' in the ledger" for name, flux in process.fluxes.items()
            if flux.ledger not in (None, "in")
        ]
        if held:
            _refuse(
                plan, f"{held[0]}, and what a process of precipitation takes and adds is what it gives. Make it one of "
                "snow, which gives liquid water"
            )
    first: dict[str, tuple[int, str]] = {}
    for k, (_, stages) in enumerate(plan.segments):
        for stage in stages:
            for name in plan.fluxes_of(stage):
                kind = plan.process.fluxes[name].ledger
                before, other = first.setdefault(kind or name, (k, name))
                if before != k:
                    _refuse(
                        plan, f"fluxes '{other}' and '{name}' are both '{kind}' in the ledger, on both sides of a "
                        "queue. Hand the first on, and tell their sum behind the queue"
                    )


def _check_stores(plan: CellStages) -> None:
    """Refuse a store on both sides of a queue, passed by several steps at once, and a kept one that others take."""
    for symbol, name in plan.stores.items():
        takers = [stage for stage in plan.process.stages if symbol in plan.takes(stage)]
        beside = [stages for _, stages in plan.segments if any(stage in stages for stage in takers)]
        if len(beside) > 1:
            _refuse(
                plan, f"store '{name}' is taken by steps on both sides of a queue, '{takers[0].step.__name__}' and "
                f"'{takers[-1].step.__name__}'. Hand its value on as a result of the first"
            )
        for stage in takers:
            read = () if stage.adjoint is None else arguments_of(stage.adjoint.step)
            if len(takers) > 1 and (symbol in stage.kept or f"{symbol}_after" in read):
                _refuse(
                    plan, f"step '{stage.step.__name__}' keeps the store '{name}', which {len(takers)} steps take. "
                    "Keep stores of one step only"
                )


def _check_varying(plan: CellStages) -> None:
    """Refuse parameters that vary in time, and that something else than steps takes."""
    process = plan.process
    for name in plan.varying:
        symbol = plan.parameters[name].symbol
        prepared = [one.step for one in process.prepared if symbol in arguments_of(one.step)]
        users = [f"'{step.__name__}'" for step in prepared]
        users += [f"queue '{q}'" for q, queue in process.queues.items() if queue.base == name
                  or symbol in arguments_of(queue.form)]
        users += [f"store '{s}'" for s, store in process.stores.items() if store.start_of == symbol
                  or store.at_most == name]
        if users:
            _refuse(
                plan, f"parameter '{name}' cannot vary in time, since {users[0]} takes one value of it. Give one value "
                "per cell"
            )


def _check_returns(plan: CellStages, stage: Stage) -> None:
    """Refuse a step that returns another number of values, or keeps or changes what it does not have."""
    count = returned_count(stage.step)
    if count != len(stage.returns):
        _refuse(
            plan, f"step '{stage.step.__name__}' returns {count} values, expected {len(stage.returns)}: "
            f"{', '.join(stage.returns)}. Correct 'returns'"
        )
    for symbol in stage.kept:
        if symbol not in stage.returns:
            _refuse(plan, f"step '{stage.step.__name__}' keeps '{symbol}', which it does not return. Correct 'kept'")
    taken = [a for a in plan.takes(stage) if a in plan.stores]
    changed = [r for r in stage.returns if r in plan.stores]
    for symbol in changed:
        if symbol not in taken:
            _refuse(plan, f"step '{stage.step.__name__}' returns the store '{symbol}' without taking it. Correct it")


def _refuse(plan: CellStages, message: str) -> NoReturn:
    raise DeclarationError(f"process '{plan.process.name}': {message}.")
