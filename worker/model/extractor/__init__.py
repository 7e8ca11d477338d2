"""GLiNER2 and GLiNER2.5, whose library calls its models extractors. Needs the extra `gliner2`.

Only the library's layers are imported, never its package's `__init__`, which imports a client for a remote service:
the package is known to Python without having been run.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec

if "gliner2" not in sys.modules and (spec := find_spec("gliner2")) is not None:
    sys.modules["gliner2"] = module_from_spec(spec)
