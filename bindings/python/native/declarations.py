"""Turns headers of ours into what cffi reads: the declarations without comments, macros and inline
functions, and every constant. Nothing of a header is typed again anywhere.
"""

from __future__ import annotations

import re

# Words that say something to a C compiler or a reader, and nothing to cffi.
_MARKS = re.compile(r"\b(FLOWMESH_NULLABLE|FLOWMESH_MUST_CHECK)\b")
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_CONSTANT = re.compile(r"^#define[ \t]+(FLOWMESH_\w+[ \t]+-?\d+)[ \t]*$", re.MULTILINE)
_TEXT = re.compile(r'^#define[ \t]+(FLOWMESH_\w+)[ \t]+"[^"]*"[ \t]*$', re.MULTILINE)
_DIRECTIVE = re.compile(r"^[ \t]*#(?:.*\\\n)*.*$", re.MULTILINE)
_INLINE = re.compile(r"^static inline .*?^}$", re.MULTILINE | re.DOTALL)
_CPLUSPLUS = re.compile(r"#ifdef __cplusplus\b.*?#endif", re.DOTALL)


def of_header(text: str) -> str:
    """The declarations of a header."""
    text = _CPLUSPLUS.sub("", _COMMENT.sub("", text))
    constants = [f"#define {constant}" for constant in _CONSTANT.findall(text)]
    texts = [f"static char *const {name};" for name in _TEXT.findall(text)]
    rest = _MARKS.sub("", _INLINE.sub("", _DIRECTIVE.sub("", text)))
    lines = [line.rstrip() for line in rest.splitlines() if line.strip()]
    return "\n".join(constants + texts + lines) + "\n"
