"""Errors of bmi_cdlm. Every message says what, where, got, expected and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST_VALUE, LONGEST_MESSAGE = 100, 4000
"""Letters of a value that is echoed, and of a message as a whole."""


def shown(value: object, longest: int = LONGEST_VALUE) -> str:
    """A value as a message shows it: cut where it is long, and without letters that a screen acts on."""
    text = value if isinstance(value, str) else repr(value)
    n = len(text)
    text = "".join(c if c.isprintable() or c in "\n " else repr(c)[1:-1] for c in text[: longest + 1])
    return text if n <= longest else f"{text[:longest]}... ({n} letters)"


class CdlmError(Exception):
    """Base of every error that bmi_cdlm raises on purpose; its message is short, whatever it echoes."""

    def __init__(self, *given: object) -> None:
        super().__init__(*(shown(one, LONGEST_MESSAGE) if isinstance(one, str) else one for one in given))


class ConfigError(CdlmError, ValueError):
    """A configuration file or key is missing, unknown or contradictory."""


class DomainError(CdlmError, ValueError):
    """A domain file breaks its schema: topology, areas, links or gauges."""


class DeclarationError(CdlmError, ValueError):
    """The declaration of a process does not fit its steps, or two processes use one name."""


class ParameterError(CdlmError, ValueError):
    """A model parameter is missing, of another size, or outside its bounds."""


class CheckpointError(CdlmError, ValueError):
    """A checkpoint is damaged, of another version, or does not fit the run."""


class ForcingError(CdlmError, ValueError):
    """Forcing is missing, has gaps, other units, or values that have no meaning."""


class ObservationError(CdlmError, ValueError):
    """An observation file cannot be used with this domain or period."""


class StateError(CdlmError, ValueError):
    """A state or restart file does not belong to this domain or model."""


class LedgerError(CdlmError, ArithmeticError):
    """The water balance of a cell, a reach or the domain does not close within the tolerance."""


class NotFiniteError(CdlmError, ArithmeticError):
    """A value of the model is NaN or infinite."""


class OutputError(CdlmError, OSError):
    """An output file cannot be written."""


class ClusterError(CdlmError, RuntimeError):
    """Work could not be handed out: dask is missing, or its scheduler or workers are."""


class ClockError(CdlmError, ValueError):
    """The model is asked to step to a time that it cannot reach."""


class LifecycleError(CdlmError, RuntimeError):
    """A BMI function was called before initialize or after finalize."""


class DialectError(CdlmError, TypeError):
    """A scalar step says what no adjoint can be derived from, or what costs compiled kernels their speed."""


class UnknownNameError(CdlmError, KeyError):
    """A variable or parameter of that name does not exist."""

    def __str__(self) -> str:
        """Return the message itself: KeyError would show its repr."""
        return str(self.args[0])


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint naming the known name closest to `name`, or the empty string."""
    if len(str(name)) > LONGEST_VALUE:
        return ""
    found = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f" Did you mean '{found[0]}'?" if found else ""
