"""Makes coremltools predict off Apple's systems: `import coreml_anywhere.coremltools`, before or after coremltools.

coremltools reaches Core ML through one native module, `coremltools.libcoremlpython`, which exists on macOS only. This
package supplies it. On macOS the real one is left alone; `install(force=True)` replaces it there too.
"""

from __future__ import annotations

import sys

from . import gates

__all__ = ["install"]


def install(force: bool = False) -> bool:
    """Puts this library in the place of Core ML in coremltools. Whether it did: on macOS only if it is forced to."""
    if sys.platform == "darwin" and not force:
        return False
    gates.open_all()
    return True


install()
