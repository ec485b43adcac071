"""How the loops of `kernel` are compiled: two kinds of function, and arrays that nobody counts references to."""

from __future__ import annotations

from typing import Any

from numba import njit
from numba.core import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

hot = njit(nogil=True, error_model="numpy", forceinline=True)
"""Becomes part of who calls it."""
cold = njit(nogil=True, error_model="numpy")


def _borrowed(typing: Any, array: types.Array) -> Any:
    """The same array without an owner, so that passing it on counts no references: atomic additions took most of the time of a point.

    Whoever owns the array must hold it for as long.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        old = make_array(signature.args[0])(context, builder, arguments[0])  # type: ignore[no-untyped-call]
        new = make_array(signature.return_type)(context, builder)  # type: ignore[no-untyped-call]
        populate_array(new, data=old.data, shape=old.shape, strides=old.strides, itemsize=old.itemsize, meminfo=None)  # type: ignore[no-untyped-call]
        return new._getvalue()

    return array(array), build


borrowed: Any = intrinsic(_borrowed)
"""`_borrowed` as the compiler knows it."""
