#!/usr/bin/env python3
"""Prints paragraphs for debian/copyright about the crates that the library and the server contain.

Of the licences that a crate offers the first of PREFERRED is taken. One whose text Debian has is
named; any other is given in full, from the crate's own files.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

CARGO = "cargo"
PACKAGES = ["-p", "flowmesh", "-p", "flowmesh-server"]
# In /usr/share/common-licenses; the paragraph with their text is in packaging/debian/copyright.
KNOWN = {"Apache-2.0"}
PREFERRED = ["Apache-2.0", "MIT", "ISC", "BSD-3-Clause", "Zlib", "CC0-1.0", "Unlicense"]
# Debian wants it named, not repeated, also where a file has it among others.
APACHE = re.compile(
    r"[ \t]*Apache License\s+Version 2\.0, January 2004.*?limitations under the License\.", re.DOTALL
)
NAMED = "The Apache License, Version 2.0, as in /usr/share/common-licenses/Apache-2.0."
PUBLIC_DOMAIN = """\
Files: crates/{name}-{version}/sqlite3/*
Copyright: none
License: public-domain
 The authors of SQLite disclaim copyright to its source code.
"""


def run(*command: str) -> str:
    return subprocess.run([CARGO, *command], check=True, capture_output=True, text=True).stdout


def linked() -> list[dict]:
    """The crates inside the binaries, as cargo describes them."""
    host = re.search("^host: (.*)$", run("-vV"), re.M)
    described = run("metadata", "--locked", "--format-version", "1", "--filter-platform", host[1])
    packages = json.loads(described)["packages"]
    tree = run("tree", "--locked", "-e", "normal,no-proc-macro", "--prefix", "none", "--no-dedupe",
               "-f", "{p}", *PACKAGES)  # fmt: skip
    names = {tuple(line.split()[:2]) for line in tree.splitlines() if line}
    chosen = [p for p in packages if p["source"] and (p["name"], "v" + p["version"]) in names]
    return sorted(chosen, key=lambda p: (p["name"], p["version"]))


def choose(expression: str) -> list[str]:
    """The licences to follow: all that are joined by AND, one of those joined by OR."""
    chosen = []
    for term in re.split(r"\s+AND\s+", expression):
        offered = re.split(r"\s+OR\s+|\s*/\s*", term.strip().strip("()"))
        chosen.append(next((name for name in PREFERRED if name in offered), offered[0]))
    return chosen


def texts(directory: Path, licences: list[str]) -> list[str]:
    """The licence files of a crate: those named after its licences, else all of them."""
    files = sorted(f for f in directory.iterdir() if re.match(r"(?i)(licen[cs]e|copying|unlicense)", f.name))
    files = [f for f in files if f.is_file()]
    named = [f for f in files if any(name.split("-")[0].lower() in f.name.lower() for name in licences)]
    return [f.read_text(errors="replace") for f in named or files]


def holders(contents: list[str], authors: list[str]) -> list[str]:
    """The copyright lines of licence files, else the crate's authors."""
    lines = [line.strip(" /*") for text in contents for line in text.splitlines()]
    found = [line for line in lines if re.match(r"(?i)copyright\s+(\(c\)|©|\d{4}|the )", line)]
    found = [re.sub(r"(?i)^copyright\s+(\(c\)\s*|©\s*)?", "", line) for line in found]
    return list(dict.fromkeys(found)) or authors


def indented(text: str) -> str:
    return "\n".join(f" {line.rstrip()}" if line.strip() else " ." for line in text.strip().splitlines())


def paragraph(package: dict, siblings: list[dict]) -> str:
    name, version = package["name"], package["version"]
    licences = choose(package["license"] or sys.exit(f"copyright.py: {name} names no licence"))
    # A crate without the text of its licence is under that of its repository.
    directories = [Path(crate["manifest_path"]).parent for crate in [package, *siblings]]
    contents = next(filter(None, (texts(directory, licences) for directory in directories)), [])
    owners = holders(contents, package["authors"]) or [f"the developers of {name}"]
    lines = [f"Files: crates/{name}-{version}/*", "Copyright: " + "\n ".join(owners)]
    lines.append("License: " + " and ".join(licences))
    if not set(licences) <= KNOWN:
        if not contents:
            sys.exit(f"copyright.py: {name} {version} has no file with its licence")
        lines.append(indented("\n\n".join(APACHE.sub(NAMED, text) for text in contents)))
    result = "\n".join(lines) + "\n"
    if (directories[0] / "sqlite3/sqlite3.c").exists():
        result += "\n" + PUBLIC_DOMAIN.format(name=name, version=version)
    return result


def main() -> None:
    crates = linked()
    for crate in crates:
        repository = crate["repository"]
        siblings = [other for other in crates if repository and other["repository"] == repository]
        print("\n" + paragraph(crate, siblings), end="")


if __name__ == "__main__":
    main()
