"""The loops of `kernel`, `syslog_kernel` and `exposition_kernel`, compiled; only this module of the sources imports Numba."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

from ninefold.sources import exposition_kernel, kernel, syslog_kernel
from ninefold.sources.kernel import Kernels


@intrinsic
def _word(_: Any, buffer: Any, position: Any) -> Any:
    """`kernel._word` as one load of eight bytes wherever they lie; the machine is little-endian."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.bitcast(builder.gep(array.data, [arguments[1]]), ir.IntType(64).as_pointer())
        return builder.load(place, align=1)

    return types.int64(buffer, position), generate


@njit(inline="always")
def _copy(source: Any, target: Any) -> None:
    """`kernel._copy`."""
    for i in range(len(source)):
        target[i] = source[i]


def compiled() -> Kernels:
    """The loops compiled, or loaded from Numba's cache beside the source or in the user's cache folder."""
    data, memory = types.Array(types.uint8, 1, "C", readonly=True), types.uint8[::1]
    ints, number, code = types.int64[::1], types.int64, types.UniTuple(types.int64, 3)  # type: ignore[no-untyped-call]
    slots, table = types.int32[::1], types.int64[:, ::1]
    here, there = _scope(kernel, "_varint", "_run", "_open", "_term", "_folded"), _scope(syslog_kernel)
    return Kernels(
        _compile(kernel._scan, code(data, ints, ints, ints, ints, number, ints, ints, ints), here),
        _compile(kernel._digest, types.void(data, ints, ints, ints, ints, table), here),
        _compile(kernel._find, types.void(table, slots, table, ints), here),
        _compile(kernel._place, types.void(slots, table, number, number), here),
        _compile(kernel._unpack, types.int64(data, ints, ints, ints, ints), here),
        _compile(kernel._gather, types.void(data, ints, ints, memory, types.int32[::1]), here),
        _compile(syslog_kernel._lines, types.void(data, ints, ints, number, number, ints), there),
        _compile(exposition_kernel.read_lines, types.int64(data, ints), _scope(exposition_kernel, "_blank", "_skip", "_token")),
    )


def _scope(module: ModuleType, *inlined: str) -> dict[str, Any]:
    """A module's globals with its private functions compilable; the module's own functions stay interpreted."""
    better = {"_word": _word, "_copy": _copy}
    scope = vars(module) | better
    for name, function in vars(module).items():
        if isinstance(function, FunctionType) and name.startswith("_") and name not in better:
            scope[name] = njit(inline="always" if name in inlined else "never")(FunctionType(function.__code__, scope, name))
    return scope


def _compile(loop: Callable[..., Any], signature: Any, scope: dict[str, Any]) -> Any:
    copy = FunctionType(loop.__code__, scope, loop.__name__)
    try:
        return njit(signature, cache=True, nogil=True)(copy)
    except RuntimeError:  # there is no folder in which Numba could keep a cache
        return njit(signature, nogil=True)(copy)
