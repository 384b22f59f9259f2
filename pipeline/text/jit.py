"""Kernels that load numba when the first of them is called, not when their modules are imported.

numba and some four hundred kernels that it makes ready take half a second to load; a command that explains a document
or lists the fields of a recipe imports the stages, and calls none of their kernels.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache, cached_property, partial, update_wrapper
from typing import Any

import numpy as np

from pipeline.text import kernel_cache

#: ``np.int64``, whose values a type checker may take for integers, as numba does.
int64: Any = np.int64

_making = threading.RLock()


class Kernel:
    """A function that numba compiles for each kind of arguments it is called with; to numba, it is what numba makes."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        update_wrapper(self, function)
        self.py_func, self.targetoptions = function, options
        self._dispatcher: Any = None

    def __call__(self, *arguments: Any) -> Any:
        return (self._dispatcher or self.dispatcher)(*arguments)

    @property
    def dispatcher(self) -> Any:
        """What numba made of the function."""
        with _making:  # two threads would compile it twice
            if self._dispatcher is None:
                self._dispatcher = _made(self.py_func, self.targetoptions)
        return self._dispatcher

    @property
    def _numba_type_(self) -> Any:
        """What a kernel that calls this one takes it for."""
        return self.dispatcher._numba_type_

    def __reduce__(self) -> str:
        return self.__qualname__  # type: ignore[attr-defined]  # travels to other processes by name


class Intrinsic:
    """Stands in kernels for the function of that name in ``pipeline/text/intrinsics.py``."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *_arguments: Any) -> Any:
        raise TypeError(f"{self._name} is for use inside kernels")

    @cached_property
    def _numba_type_(self) -> Any:
        from numba.core.registry import cpu_target

        from pipeline.text import intrinsics

        context: Any = cpu_target.typing_context
        context.refresh()  # what is loaded now was not yet there when the compilation began
        return context.resolve_value_type(getattr(intrinsics, self._name))


@cache
def _numba() -> Any:
    kernel_cache.use()
    import numba

    return numba


def _made(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    dispatcher = _numba().njit(**options)(function)
    if options.get("cache"):
        dispatcher.compile = partial(_compile, f"{function.__module__}.{function.__qualname__}", dispatcher.compile)
    return dispatcher


def _compile(name: str, own: Callable[[Any], Any], signature: Any) -> Any:
    """numba's own way to compile or load the kernel ``name``, unless another process is at it."""
    from numba.core.compiler_lock import global_compiler_lock

    with global_compiler_lock, kernel_cache.compiling(name):  # in this order in every thread
        return own(signature)


def njit(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``numba.njit``, put off until the kernel is called or another that calls it is compiled."""
    return lambda function: Kernel(function, options)
