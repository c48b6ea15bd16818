"""The extension module `flowmesh._native`: cffi over libflowmesh and the glue beside this file.

setup.py has cffi call this; FLOWMESH_INCLUDE_DIR and FLOWMESH_LIBRARY_DIR come from there.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
SOURCES = ["session.c", "layout.c", "calls.c", "subscription.c", "background.c", "log.c"]


def _declarations(path: Path) -> str:
    spec = importlib.util.spec_from_file_location("declarations", HERE / "declarations.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    of_header: str = module.of_header(path.read_text(encoding="utf-8"))
    return of_header


include = Path(os.environ["FLOWMESH_INCLUDE_DIR"])
library = Path(os.environ["FLOWMESH_LIBRARY_DIR"])

ffibuilder = FFI()
ffibuilder.cdef(_declarations(include / "flowmesh.h"))
ffibuilder.cdef(_declarations(HERE / "glue.h"))
ffibuilder.set_source(
    "flowmesh._native",
    '#include "glue.h"',
    # Relative to setup.py: what is outside its directory cannot be packed.
    sources=[f"native/{name}" for name in SOURCES],
    include_dirs=[str(HERE), str(include)],
    library_dirs=[str(library)],
    libraries=["flowmesh"],
    extra_compile_args=["-std=c11", "-O2", "-fvisibility=hidden"],
    extra_link_args=["-Wl,-rpath,$ORIGIN"],
)
