#!/usr/bin/env python3
"""Compares the calls of the header that can block with their asynchronous forms.

Every function says whether it blocks. One that does has an _async form: its inputs, then a callback
that gets its outputs, user_data, drop_user_data, an operation handle and the error. What has none,
or another shape, is listed here with the reason.

usage: async_forms.py HEADER
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

WITHOUT_ASYNC = {
    "flowmesh_dispatcher_run": "it is what runs callbacks",
    "flowmesh_log_set_callback": "waits for a callback of the application alone",
    "flowmesh_producer_send": "timeout_ms 0 does not wait, and the writable callback tells of room",
    "flowmesh_producer_send_delayed": "as flowmesh_producer_send",
    "flowmesh_shutdown": "ends what would call back",
    "flowmesh_subscription_next": "a subscription with a callback is its asynchronous form",
}
WITHOUT_OPERATION = {
    "flowmesh_subscription_close_async": "cannot be cancelled",
}
# Where the callback gets something else than the outputs.
RESULTS = {
    # An array of one offset for each event: the caller knows how many, the callback does not.
    "flowmesh_stream_write": ["const int64_t *", "size_t"],
}

USER_DATA = ["void *", "flowmesh_drop_t"]
OPERATION = "flowmesh_operation_t **"
ERROR = "flowmesh_error_t **"
SCALARS = {"bool", "int32_t", "int64_t", "size_t"}


@dataclass
class Function:
    comment: str
    parameters: list[str]  # types

    @property
    def may_block(self) -> bool | None:
        if re.search(r"\bblock(s|ed)?\b", self.comment, re.IGNORECASE) is None:
            return None
        return "not block" not in self.comment


def types(parameters: str) -> list[str]:
    """The types in a list of parameters, without their names."""
    if parameters.strip() == "void":
        return []
    found = []
    for parameter in parameters.replace("FLOWMESH_NULLABLE", "").split(","):
        match = re.fullmatch(r"(.*?[\s*])\w+", " ".join(parameter.split()))
        assert match, f"not understood: {parameter}"
        found.append(match[1].strip())
    return found


def functions(header: str) -> dict[str, Function]:
    declaration = re.compile(
        r"((?://[^\n]*\n)+)(?:FLOWMESH_MUST_CHECK\n)?"
        r"[a-z][\w ]*[ *](flowmesh_\w+)\(([^;{}()]*)\);"
    )
    return {
        name: Function(" ".join(comment.replace("//", " ").split()), types(parameters))
        for comment, name, parameters in declaration.findall(header)
    }


def callbacks(header: str) -> dict[str, list[str]]:
    found = re.findall(r"typedef \w+ \(\*(flowmesh_\w+)\)\(([^;]*)\);", header)
    return {name: types(parameters) for name, parameters in found}


def is_output(of: str) -> bool:
    return of.endswith("*") and not of.startswith("const ") and of != "void *"


def result(output: str) -> str:
    """What a callback gets for an output of the blocking form."""
    pointee = output[:-1].strip()
    return pointee if pointee in SCALARS or pointee.endswith("*") else f"const {pointee} *"


def shape(name: str, blocking: Function, callback: str) -> list[str]:
    """What the parameters of the asynchronous form must be."""
    inputs = [of for of in blocking.parameters[1:] if not is_output(of)]
    if inputs[-2:] == USER_DATA:  # shared by both callbacks
        inputs = inputs[:-2]
    operation = [] if f"{name}_async" in WITHOUT_OPERATION else [OPERATION]
    return [blocking.parameters[0], *inputs, callback, *USER_DATA, *operation, ERROR]


def faults(header: str) -> list[str]:
    declared, types_of = functions(header), callbacks(header)
    known = set(re.findall(r"^(?:[\w ]*[ *])?(flowmesh_\w+)\([^;]*\);", header, re.MULTILINE))
    wrong = [f"{name}: its declaration is not understood" for name in sorted(known - set(declared))]
    listed = [("WITHOUT_ASYNC", WITHOUT_ASYNC), ("WITHOUT_OPERATION", WITHOUT_OPERATION)]
    for table, names in [*listed, ("RESULTS", RESULTS)]:
        wrong += [f"{name}: in {table}, but not declared" for name in set(names) - set(declared)]
    for name, function in declared.items():
        is_setter = "_options_set_" in name  # the options' type says that they do not block
        if function.may_block is None and not is_setter:
            wrong.append(f"{name}: does not say whether it blocks")
        if name.endswith("_async"):
            if function.may_block is not False:
                wrong.append(f"{name}: does not say that it does not block")
            if not declared.get(name.removesuffix("_async"), function).may_block:
                wrong.append(f"{name}: there is no blocking form")
            continue
        other = declared.get(f"{name}_async")
        if other is None:
            if function.may_block and name not in WITHOUT_ASYNC:
                wrong.append(f"{name}: blocks, and has no _async form")
            continue
        if name in WITHOUT_ASYNC:
            wrong.append(f"{name}: has an _async form, so WITHOUT_ASYNC must not list it")
        outputs = [of for of in function.parameters if is_output(of) and of != ERROR]
        results = RESULTS.get(name, [result(output) for output in outputs])
        callback = next(
            (of for of in reversed(other.parameters) if of in types_of and of not in USER_DATA), ""
        )
        want = shape(name, function, callback)
        if other.parameters != want:
            wrong.append(f"{name}_async: takes {other.parameters}\n  but should take {want}")
        elif types_of[callback] != ["flowmesh_error_t *", *results, "void *"]:
            wrong.append(f"{name}_async: {callback} gets {types_of[callback]}, but the call gives {results}")
    return wrong


def main() -> int:
    header = Path(sys.argv[1]).read_text()
    wrong = faults(header)
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        return 1
    every = functions(header)
    # It would notice the loss of any of them.
    for name in every:
        without = re.sub(rf"[^\n]*\b{name}\([^;]*\);", "", header)
        assert not name.endswith("_async") or faults(without), name
    blocking = [name for name, function in every.items() if function.may_block]
    print(
        f"{len(every)} functions say whether they block; of {len(blocking)} that do, "
        f"{len(blocking) - len(WITHOUT_ASYNC)} have an _async form of the same shape, "
        f"{len(WITHOUT_ASYNC)} a reason for none"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
