#!/usr/bin/env python3
"""What the project is made of keeps to its rules, as far as that can be told in seconds.

- every dependency comes from the registry, with a checksum in the committed lock file, and has a
  licence that deny.toml allows;
- `unsafe` stands where UNSAFE below allows it and nowhere else, and every crate has the lint
  that asks for a SAFETY line;
- the bills of materials list what is linked.

`make deny` has cargo-deny look closer.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

# Where unsafe code may be, with the reason. A path that ends in a slash stands for all below it.
UNSAFE = {
    "src/capi/boundary/": "what C passes in",
    "src/boundary/": "what the runtime needs of the system",
    "server/src/database/fork.rs": "SQLite's own mutexes",
    "server/src/disk.rs": "two system calls: how much space is left, and reserving it for a file",
    "server/src/powercut/vfs.rs": "tests: SQLite's files on a disk that lies",
    "fuzz/src/calls/": "is a C caller itself",
}

REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"


def run(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def allowed(expression: str, licences: set[str]) -> bool:
    """Whether an SPDX expression can be kept with these licences."""
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))

    def either() -> bool:
        found = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            found = both() or found
        return found

    def both() -> bool:
        found = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            found = one() and found
        return found

    def one() -> bool:
        token = tokens.pop(0)
        if token == "(":
            found = either()
            tokens.pop(0)
            return found
        if tokens and tokens[0] == "WITH":
            token = " ".join([token, tokens.pop(0), tokens.pop(0)])
        return token in licences

    return either()


def check_dependencies(packages: list[dict[str, Any]]) -> list[str]:
    rules = tomllib.loads((ROOT / "deny.toml").read_text())["licenses"]
    exceptions = {entry["crate"]: set(entry["allow"]) for entry in rules["exceptions"]}
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    wrong = [f"{p['name']}: no checksum" for p in lock if "source" in p and "checksum" not in p]
    for package in packages:
        name, source, licence = package["name"], package["source"], package["license"]
        if source not in (None, REGISTRY):
            wrong.append(f"{name} comes from {source}")
        licences = set(rules["allow"]) | exceptions.get(name, set())
        if not licence or not allowed(licence, licences):
            wrong.append(f"{name} has the licence {licence}, which deny.toml does not allow")
    return wrong


def code(text: str) -> str:
    """Rust without comments, and with nothing in its texts, line for line."""
    pattern = r'//[^\n]*|/\*.*?\*/|r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])\''

    def empty(found: re.Match[str]) -> str:
        return ('""' if found[0].endswith('"') else "") + "\n" * found[0].count("\n")

    return re.sub(pattern, empty, text, flags=re.S)


def check_unsafe(files: dict[str, str]) -> list[str]:
    wrong = []
    for name, text in files.items():
        if any(name == place or (place[-1] == "/" and name.startswith(place)) for place in UNSAFE):
            continue
        for number, line in enumerate(code(text).splitlines(), 1):
            # No code: the name of an export, the type of a C function.
            line = re.sub(r"#\[unsafe\(no_mangle\)\]|\bunsafe extern \"\" fn\(", "", line)
            if re.search(r"\bunsafe\b", line):
                wrong.append(f"{name}:{number}: unsafe outside the boundary")
    for place in UNSAFE:
        if not any("unsafe" in text for name, text in files.items() if name.startswith(place)):
            wrong.append(f"{place} needs no unsafe any more")
    return wrong


def check_lints(packages: list[dict[str, Any]]) -> list[str]:
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["lints"]
    wrong = []
    if workspace["clippy"]["undocumented_unsafe_blocks"] != "deny":
        wrong.append("clippy::undocumented_unsafe_blocks is not denied")
    if workspace["rust"]["unsafe_op_in_unsafe_fn"] != "deny":
        wrong.append("unsafe_op_in_unsafe_fn is not denied")
    for package in packages:
        manifest = Path(package["manifest_path"])
        lints = tomllib.loads(manifest.read_text()).get("lints", {})
        if package["source"] is None and not lints.get("workspace"):
            wrong.append(f"{manifest.relative_to(ROOT)} does not take the lints of the workspace")
    return wrong


def check_bills() -> list[str]:
    out = ROOT / "target" / "sbom"
    run(sys.executable, "scripts/sbom.py", str(out))
    wrong = []
    for package, needs in {
        "flowmesh": {"tokio", "tonic", "prost", "sqlite", "flowmesh-server"},
        "flowmesh-server": {"tokio", "tonic", "h2", "clap", "sqlite"},
    }.items():
        text = (out / f"{package}.cdx.json").read_text()
        bill = json.loads(text)
        names = {component["name"] for component in bill["components"]}
        if not needs <= names:
            wrong.append(f"the bill of {package} lacks {sorted(needs - names)}")
        # What only builds or tests is not shipped.
        if names & {"cbindgen", "tempfile", "libfuzzer-sys", "protox"}:
            wrong.append(f"the bill of {package} lists what is not linked")
        refs = {component["bom-ref"] for component in bill["components"]}
        refs.add(bill["metadata"]["component"]["bom-ref"])
        for entry in bill["dependencies"]:
            for ref in [entry["ref"], *entry["dependsOn"]]:
                if ref not in refs:
                    wrong.append(f"the bill of {package} refers to {ref}, which it does not list")
        run(sys.executable, "scripts/sbom.py", str(out))
        if (out / f"{package}.cdx.json").read_text() != text:
            wrong.append(f"the bill of {package} is another one each time")
    return wrong


def check_planted() -> list[str]:
    """These checks can fail."""
    wrong = []
    if allowed("GPL-3.0-only OR (MIT AND GPL-2.0-only)", {"MIT"}) or not allowed("(A AND B) OR C/D", {"D"}):
        wrong.append("licence expressions are not understood")
    # The words are put together here, so that this file itself passes.
    planted = 'let s = "unsafe"; // unsafe\n/* unsafe */ let c = \'"\'; ' + "unsa" + "fe { f() }\n"
    found = [line for line in check_unsafe({"src/client/planted.rs": planted}) if "planted" in line]
    if found != ["src/client/planted.rs:2: unsafe outside the boundary"]:
        wrong.append(f"planted code was not found: {found}")
    return wrong


def main() -> None:
    metadata = json.loads(run("cargo", "metadata", "--locked", "--all-features", "--format-version", "1"))
    packages = metadata["packages"]
    names = [name for name in run("git", "ls-files", "*.rs").split() if (ROOT / name).exists()]
    files = {name: (ROOT / name).read_text() for name in names}
    wrong = [
        *check_planted(),
        *check_dependencies(packages),
        *check_unsafe(files),
        *check_lints(packages),
        *check_bills(),
    ]
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        sys.exit(1)
    print(f"supply chain: {len(packages)} packages, {len(files)} Rust files")


main()
