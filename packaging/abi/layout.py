#!/usr/bin/env python3
"""Compares two records that libabigail's abidw made: fields of structs, values of constants.

    layout.py RELEASED NOW

A struct may grow at its end, as the header says of each: callers give its size, or have it only by
pointer. All that it had stays where it was, with its type. abidiff has no way to say so: told to
accept growth, it also accepts a field of another type. It does not mind either that a constant is
gone. Structs that never grow are left to it.
"""

import sys
import xml.etree.ElementTree as xml
from collections.abc import Iterator

Types = dict[str, xml.Element]


def spelled(types: Types, key: str) -> str:
    """A type in terms of what the compiler has built in, and of structs by name."""
    kind = types.get(key)
    if kind is None or "name" in kind.attrib and kind.tag not in ("typedef-decl", "array-type-def"):
        return "?" if kind is None else kind.attrib["name"]
    if kind.tag == "function-type":
        parts = [spelled(types, part.attrib["type-id"]) for part in kind]
        return f"{parts[-1]}({', '.join(parts[:-1])})"
    inner = spelled(types, kind.attrib["type-id"])
    if kind.tag == "pointer-type-def":
        return inner + " *"
    if kind.tag == "qualified-type-def":
        return inner + "".join(f" {q}" for q in ("const", "volatile") if kind.get(q) == "yes")
    if kind.tag == "array-type-def":
        return inner + "".join(f"[{part.get('length')}]" for part in kind)
    return inner


def fields(types: Types, struct: xml.Element) -> Iterator[str]:
    for member in struct.iter("data-member"):
        variable = member.find("var-decl")
        if variable is not None:
            offset = int(member.attrib["layout-offset-in-bits"]) // 8
            yield f"{spelled(types, variable.attrib['type-id'])} {variable.attrib['name']} at byte {offset}"


def layouts(file: str) -> dict[str, list[str]]:
    """The fields of each struct in their order, and of each constant its value."""
    tree = xml.parse(file)
    types = {element.attrib["id"]: element for element in tree.iter() if "id" in element.attrib}
    structs = [e for e in tree.iter("class-decl") if e.attrib["name"].startswith("flowmesh_")]
    found = {e.attrib["name"]: list(fields(types, e)) for e in structs}
    for constant in tree.iter("enumerator"):
        found[constant.attrib["name"].removeprefix("VALUE_OF_")] = [constant.attrib["value"]]
    return found


def main() -> int:
    released, now = (layouts(file) for file in sys.argv[1:3])
    broken = False
    for name, before in released.items():
        after = now.get(name, [])
        for i, what in enumerate(before):
            if what not in after[i : i + 1]:
                print(f"{name}: had {what}, has {after[i] if i < len(after) else 'nothing there'}")
                broken = True
                break
    return broken


if __name__ == "__main__":
    sys.exit(main())
