"""Code that others compile into themselves: LLVM's, without machine code and without a way in for Python.

numba makes machine code, and wrappers for Python and C, of every function, also of one that only compiled functions
call, and optimises every function once for each way that leads to it from where Python comes in. Here a function that
others call stops at the code that its callers take over. A row, which calls no loop, is optimised by itself, so that it
is taken in vectors whatever is around it; what goes into its callers whole (scalar steps) and what calls rows (tiles,
loops over reaches) is optimised in the one function that Python calls. It leans on what numba does not document: a
numba in which that is not found makes all of it as before.
"""

from __future__ import annotations

from types import CodeType
from typing import Any

from numba.core.codegen import CPUCodegen, JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.compiler_machinery import PassManager
from numba.core.typed_passes import NopythonRewrites
from numba.core.untyped_passes import InlineClosureLikes

from bmi_cdlm.kernels.quick import quick

NEEDED = (
    "_finalize_final_module", "_finalize_dynamic_globals", "_verify_declare_only_symbols", "get_pointer_to_function",
    "_optimize_functions", "_optimize_final_module",
)
HAS_LIBRARY = all(hasattr(JITCodeLibrary, name) for name in NEEDED)
HAS_PASSES = hasattr(CPUCodegen, "_pass_builder")
"""Whether numba hands out LLVM's passes with what they are built by; an older one optimises as it did."""


class OnceOptimised(JITCodeLibrary):
    """A library whose code goes through the passes of LLVM once, all of it at the end."""

    def _optimize_functions(self, ll_module: Any) -> None:
        """Nothing yet: the passes over the whole module begin with the same."""
        if HAS_PASSES:
            ll_module.data_layout = self._codegen._data_layout
        else:
            super()._optimize_functions(ll_module)

    def _optimize_final_module(self) -> None:
        if HAS_PASSES:
            passes, builder = self._codegen._module_pass_manager()
            passes.run(self._final_module, builder)
        else:
            super()._optimize_final_module()


class NoEnvironment:
    """Where numba would keep the Python objects of a function: it has none."""

    def set_env(self, name: str, environment: object) -> None:
        """Keep nothing: what is compiled into callers, and what comes from disk, has none either."""


class LinkedLibrary(OnceOptimised):
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


class RawLibrary(LinkedLibrary):
    """The same, left to the optimisation of its callers."""

    def _optimize_final_module(self) -> None:
        if not HAS_PASSES:
            super()._optimize_final_module()


class PlainCompiler(Compiler):
    """numba's compiler without what looks for functions inside functions, and for arithmetic on whole arrays.

    Where references are not counted, and in a scalar step, there is neither.
    """

    def define_pipelines(self) -> list[PassManager]:
        """The passes, in order."""
        passes, *others = super().define_pipelines()
        flags = self.state.flags
        inner = any(isinstance(constant, CodeType) for constant in self.state.func_id.code.co_consts)
        if inner or (flags.nrt and not flags.forceinline):
            return [passes, *others]
        needed = PassManager(passes.pipeline_name)
        for one, description in passes.passes:
            if one not in (InlineClosureLikes, NopythonRewrites):
                needed.add_pass(one, description)
        needed.finalize()
        return [needed, *others]


class LinkedCompiler(PlainCompiler):
    """The same, for functions that only others call."""

    library: type[JITCodeLibrary] = LinkedLibrary

    def __init__(
        self, typingctx: Any, targetctx: Any, library: Any, args: Any, return_type: Any, flags: Any, locals: Any
    ) -> None:
        if library is None:
            library = self.library(targetctx.codegen(), "linked")
        super().__init__(typingctx, targetctx, library, args, return_type, flags, locals)


class RawCompiler(LinkedCompiler):
    """The same, whose code is optimised in that of its callers."""

    library = RawLibrary


class RootCompiler(PlainCompiler):
    """The same, for functions that Python calls."""

    def compile_extra(self, func: Any) -> Any:
        """Compile a function into a library of ours."""
        self.state.library = OnceOptimised(self.state.targetctx.codegen(), func.__qualname__)
        self.state.library.enable_object_caching()
        with quick():
            return super().compile_extra(func)


NO_WRAPPERS = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
LINKED: dict[str, Any] = {"pipeline_class": LinkedCompiler, **NO_WRAPPERS} if HAS_LIBRARY else {}
"""Options of numba for a row: a loop that others compile into themselves."""
RAW: dict[str, Any] = {"pipeline_class": RawCompiler, **NO_WRAPPERS} if HAS_LIBRARY else {}
"""Options for what else others compile into themselves."""
ROOT: dict[str, Any] = {"no_cfunc_wrapper": True} | ({"pipeline_class": RootCompiler} if HAS_LIBRARY else {})
"""Options for a function that Python calls."""
