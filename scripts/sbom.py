#!/usr/bin/env python3
"""What the library and the server are made of: CycloneDX 1.5, one file each, in target/sbom.

Lists what is linked, not what only builds or tests; SQLite, which comes inside a crate, by its own
version. The same tree gives the same bytes.

usage: sbom.py [DIRECTORY]
"""

import json
import re
import subprocess
import sys
import tomllib
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TARGET = "x86_64-unknown-linux-gnu"
# Package, and the component that a reader knows it by.
SHIPPED = {"flowmesh": "library", "flowmesh-server": "application"}

Key = tuple[str, str]


def cargo(*arguments: str) -> str:
    command = ["cargo", *arguments, "--locked"]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def tree(package: str) -> dict[Key, set[Key]]:
    """Each package that is linked, and those it uses."""
    shown = ("--edges", "normal,no-proc-macro", "--prefix", "depth", "--format", "{p}")
    edges: dict[Key, set[Key]] = {}
    path: list[Key] = []
    for line in cargo("tree", "--package", package, "--target", TARGET, *shown).splitlines():
        match = re.match(r"(\d+)(\S+) v(\S+)", line)
        if match is None:
            raise SystemExit(f"cargo tree said: {line}")
        depth, key = int(match[1]), (match[2], match[3])
        del path[depth:]
        edges.setdefault(key, set())
        if path:
            edges[path[-1]].add(key)
        path.append(key)
    return edges


def sqlite(package: dict[str, Any]) -> dict[str, Any]:
    """The C library inside the crate that binds it."""
    header = Path(package["manifest_path"]).parent / "sqlite3" / "sqlite3.h"
    version = re.search(r'#define SQLITE_VERSION +"([^"]+)"', header.read_text())
    if version is None:
        raise SystemExit(f"{header} does not tell its version")
    return {
        "type": "library",
        "bom-ref": f"sqlite@{version[1]}",
        "name": "sqlite",
        "version": version[1],
        "cpe": f"cpe:2.3:a:sqlite:sqlite:{version[1]}:*:*:*:*:*:*:*",
        "licenses": [{"license": {"id": "blessing"}}],
    }


def component(package: dict[str, Any], checksum: str | None, kind: str) -> dict[str, Any]:
    name, version = package["name"], package["version"]
    purl = f"pkg:cargo/{name}@{version}"
    # Old manifests write a slash where an SPDX expression has OR.
    licence = package["license"].replace(" / ", " OR ").replace("/", " OR ")
    made: dict[str, Any] = {
        "type": kind,
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "licenses": [{"expression": licence}],
    }
    if checksum:
        made["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return made


def document(
    package: str, kind: str, known: dict[Key, dict[str, Any]], sums: dict[Key, str]
) -> dict[str, Any]:
    edges = tree(package)
    root = next(key for key in edges if key[0] == package)
    parts = {key: component(known[key], sums.get(key), "library") for key in edges if key != root}
    subject = component(known[root], None, kind)
    uses = {key: sorted(f"pkg:cargo/{name}@{version}" for name, version in edges[key]) for key in edges}
    components = [parts[key] for key in sorted(parts)]
    for key in edges:
        if key[0] == "libsqlite3-sys":
            inside = sqlite(known[key])
            components.append(inside)
            uses[key].append(inside["bom-ref"])
    body = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": subject},
        "components": components,
        "dependencies": [
            {"ref": f"pkg:cargo/{name}@{version}", "dependsOn": uses[name, version]}
            for name, version in sorted(edges)
        ],
    }
    content = json.dumps(body, sort_keys=True)
    return {**body, "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}"}


def main() -> None:
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target" / "sbom")
    metadata = json.loads(cargo("metadata", "--format-version", "1"))
    known = {(p["name"], p["version"]): p for p in metadata["packages"]}
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    sums = {(p["name"], p["version"]): p["checksum"] for p in lock["package"] if "checksum" in p}
    directory.mkdir(parents=True, exist_ok=True)
    for package, kind in SHIPPED.items():
        bom = document(package, kind, known, sums)
        out = directory / f"{package}.cdx.json"
        out.write_text(json.dumps(bom, indent=2) + "\n")
        print(f"{out}: {len(bom['components'])} components")


main()
