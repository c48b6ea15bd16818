# Made at build time from flowmesh.h and the glue.
from typing import Any

ffi: Any
lib: Any
