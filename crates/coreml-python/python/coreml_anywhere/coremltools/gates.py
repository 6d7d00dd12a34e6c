"""Every place where coremltools asks whether it is on a Mac, for coremltools 7 to 9. No other file knows of them.

| where                                         | what                       | what it stops                                     |
|-----------------------------------------------|----------------------------|---------------------------------------------------|
| `coremltools.libcoremlpython`                 | the native module          | predictions, states, assets, plans, devices       |
| `_deps._IS_MACOS`                             | a constant                 | the converter's tests; warnings of compute plans  |
| `models.utils._is_macos`                      | a function                 | `MLModel.make_state`                              |
| `models.utils._macos_version`                 | a function, cached         | states, compiled models, `compile_model`, hints   |

The last three are copied by `from` imports, so they are replaced in every module that holds them already. Modules that were
imported without a native module hold `None` in the place of its classes; those are replaced too.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Tuple

#: The macOS we stand in for: that of the newest specification we read, iOS 26's.
MACOS = (26, 0)

_NATIVE = "coremltools.libcoremlpython"
#: Defines classes of its own on top of the native module's, when it is imported.
_DERIVES = "coremltools.models.ml_program.experimental.compute_plan_utils"


def _is_macos() -> bool:
    """Whether there is a Core ML to ask."""
    return True


def _macos_version() -> Tuple[int, ...]:
    """The version of macOS whose Core ML answers."""
    return MACOS


_REPLACED = {"_IS_MACOS": True, "_is_macos": _is_macos, "_macos_version": _macos_version}


def open_all() -> None:
    """Opens them, whether coremltools has been imported or not."""
    from . import native

    sys.modules[_NATIVE] = native
    coremltools = importlib.import_module("coremltools")
    coremltools.libcoremlpython = native
    importlib.import_module("coremltools.models.utils")
    for name, module in list(sys.modules.items()):
        if module is not None and (name == "coremltools" or name.startswith("coremltools.")) and module is not native:
            _open(module, native)
    if _DERIVES in sys.modules:
        importlib.reload(sys.modules[_DERIVES])


def _open(module: ModuleType, native: ModuleType) -> None:
    names = vars(module)
    for name, replacement in _REPLACED.items():
        if name in names:
            setattr(module, name, replacement)
    for name in native.__all__:
        if name in names and names[name] is None:
            setattr(module, name, getattr(native, name))
