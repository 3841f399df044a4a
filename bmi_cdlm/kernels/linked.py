"""Code that others compile into themselves: LLVM's, without machine code and without a way in for Python.

numba makes machine code, and wrappers for Python and C, of every function, also of one that only compiled functions
call: two fifths of what a user waits for at a first run. Here such a function stops at the code that its callers take
over. It leans on what numba does not document: a numba in which that is not found makes all of it as before.
"""

from __future__ import annotations

from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler

NEEDED = (
    "_finalize_final_module", "_finalize_dynamic_globals", "_verify_declare_only_symbols", "get_pointer_to_function",
)
HAS_LIBRARY = all(hasattr(JITCodeLibrary, name) for name in NEEDED)


class NoEnvironment:
    """Where numba would keep the Python objects of a function: it has none."""

    def set_env(self, name: str, environment: object) -> None:
        """Keep nothing: what is compiled into callers, and what comes from disk, has none either."""


class LinkedLibrary(JITCodeLibrary):
    """The code of one function for its callers; nothing of it goes to the engine that makes machine code."""

    @property
    def codegen(self) -> Any:
        """What numba asks to set the environment of the function."""
        return NoEnvironment()

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """No address: it cannot be called but by compiled functions."""
        self._ensure_finalized()
        return 0


class LinkedCompiler(Compiler):
    """numba's compiler, for functions that only others call."""

    def __init__(
        self, typingctx: Any, targetctx: Any, library: Any, args: Any, return_type: Any, flags: Any, locals: Any
    ) -> None:
        if library is None:
            library = LinkedLibrary(targetctx.codegen(), "linked")
        super().__init__(typingctx, targetctx, library, args, return_type, flags, locals)


LINKED: dict[str, Any] = {
    "pipeline_class": LinkedCompiler, "no_cpython_wrapper": True, "no_cfunc_wrapper": True,
} if HAS_LIBRARY else {}
"""Options of numba for a function that others compile into themselves."""
