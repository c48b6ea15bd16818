"""The wheel: built from the clone, installed where nothing else is, used without any preparation."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "bindings" / "python"
PROGRAM = """
import asyncio, sys
import flowmesh
from flowmesh import FlowMesh

async def main():
    async with FlowMesh("embedded:") as client:
        await client.kv.set("t", "n", "s", "key", b"v")
        return await client.kv.get("t", "n", "s", "key")

assert flowmesh.__file__.startswith(sys.prefix), flowmesh.__file__
assert asyncio.run(main()) == b"v"
with open("/proc/self/maps") as maps:
    libraries = {line.split()[-1] for line in maps if "libflowmesh" in line}
assert libraries == {flowmesh.__file__.replace("__init__.py", "libflowmesh.so.1")}, libraries
print(flowmesh.__version__)
"""


def run(*command: object, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=900,
        env=environment,
        cwd="/",
    )
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built with the tools of this environment."""
    directory = tmp_path_factory.mktemp("wheel")
    environment = {"FLOWMESH_LIBRARY_DIR": str(ROOT / "target" / "release"), **os.environ}
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    run(*pip, "-w", directory, PACKAGE, environment=environment)
    [path] = directory.glob("*.whl")
    return path


def test_the_wheel_holds_the_library_and_the_types(wheel: Path) -> None:
    assert wheel.name.startswith("flowmesh-1.0.0-cp39-abi3-linux_")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.startswith("flowmesh/")}
    assert {"flowmesh/libflowmesh.so.1", "flowmesh/_native.abi3.so", "flowmesh/py.typed"} <= names
    assert "flowmesh/_native.pyi" in names
    assert not any(name.endswith((".c", ".h")) for name in names)


def test_it_works_where_nothing_is_set_up(wheel: Path, tmp_path: Path) -> None:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FLOWMESH", "LD_", "PYTHON"))
    }
    run(sys.executable, "-m", "venv", tmp_path / "venv", environment=environment)
    python = tmp_path / "venv" / "bin" / "python"
    # cffi comes from beside the tests' own: the registry is not what is tested.
    install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-index"]
    run(*install, "--find-links", os.environ["FLOWMESH_WHEELS"], wheel, environment=environment)
    assert run(python, "-c", PROGRAM, environment=environment) == "1.0.0\n"
