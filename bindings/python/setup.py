"""Builds the extension and puts the shared library beside it.

The library is taken from FLOWMESH_LIBRARY_DIR (its header from FLOWMESH_INCLUDE_DIR, or ../include),
else from target/release of the clone that this directory is in, where cargo builds it if need be.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
SONAME = "libflowmesh.so.1"


def repository() -> Path | None:
    """The clone that this directory is in."""
    for directory in HERE.parents:
        if (directory / "include" / "flowmesh.h").is_file() and (directory / "Cargo.toml").is_file():
            return directory
    return None


def find_library() -> tuple[Path, Path]:
    """Directories of the header and of the library, which is built when it is not there."""
    given = os.environ.get("FLOWMESH_LIBRARY_DIR")
    root = repository()
    if given:
        library = Path(given).resolve()
        headers = [
            os.environ.get("FLOWMESH_INCLUDE_DIR"),
            library.parent / "include",
            root and root / "include",
        ]
        for include in headers:
            if include and (Path(include) / "flowmesh.h").is_file():
                return Path(include).resolve(), library
        sys.exit("flowmesh.h not found: set FLOWMESH_INCLUDE_DIR to its directory")
    if root is None:
        sys.exit(
            "libflowmesh not found: install from a clone of its repository (pip 21.3 or newer), or "
            "set FLOWMESH_LIBRARY_DIR and FLOWMESH_INCLUDE_DIR to where libflowmesh.so and flowmesh.h are"
        )
    library = Path(os.environ.get("CARGO_TARGET_DIR", root / "target")).resolve() / "release"
    if not (library / "libflowmesh.so").is_file():
        cargo = shutil.which("cargo") or sys.exit(
            "libflowmesh is not built, and there is no cargo to build it: install Rust 1.90 or newer, "
            "or set FLOWMESH_LIBRARY_DIR to the directory of a libflowmesh.so"
        )
        command = [cargo, "rustc", "--release", "--lib", "--crate-type", "cdylib,staticlib"]
        subprocess.run(command, cwd=root, check=True)
    return root / "include", library


class BuildExtension(build_ext):
    """Puts the library to wherever the extension goes."""

    def copy_library(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        copy = directory / SONAME
        copy.unlink(missing_ok=True)  # never write into a file that some process has mapped
        shutil.copy2(Path(os.environ["FLOWMESH_LIBRARY_DIR"]) / "libflowmesh.so", copy)
        strip = shutil.which("strip")
        if strip is not None:
            subprocess.run([strip, "--strip-debug", copy], check=True)

    def run(self) -> None:
        super().run()
        self.copy_library(Path(self.build_lib) / "flowmesh")
        if self.inplace:
            self.copy_library(HERE / "src" / "flowmesh")


class Wheel(bdist_wheel):
    """The extension uses the stable ABI: one wheel serves every Python from 3.9 on."""

    def finalize_options(self) -> None:
        self.py_limited_api = "cp39"
        super().finalize_options()


include, library = find_library()
os.environ["FLOWMESH_INCLUDE_DIR"], os.environ["FLOWMESH_LIBRARY_DIR"] = str(include), str(library)
setup(
    cffi_modules=["native/build_native.py:ffibuilder"],
    cmdclass={"build_ext": BuildExtension, "bdist_wheel": Wheel},
)
