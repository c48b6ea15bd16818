"""The programs of the guide and the README do what the text says, and the examples run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PATIENCE, ROOT, Server

PACKAGE = ROOT / "bindings" / "python"


def snippets(path: Path) -> list[tuple[str, str]]:
    """The programs of a document with the output that follows before the next program."""
    parts = re.split(r"(?m)^```python\n", path.read_text())[1:]
    found = []
    for part in parts:
        program, _, rest = part.partition("```\n")
        output = re.search(r"(?ms)^```text\n(.*?)^```", rest)
        found.append((program, output[1] if output else ""))
    return found


def run(arguments: list[str], directory: Path) -> str:
    # As -X dev, without asyncio's debug mode, which tells of what was slow.
    done = subprocess.run(
        [sys.executable, "-W", "default", "-X", "faulthandler", *arguments],
        env={**os.environ, "PYTHONMALLOC": "debug"},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


GUIDE = snippets(ROOT / "docs" / "python.md")


@pytest.mark.parametrize("number", range(len(GUIDE)))
def test_a_program_of_the_guide(number: int, tmp_path: Path) -> None:
    program, output = GUIDE[number]
    assert output, "the guide does not say what it prints"
    assert run(["-c", program], tmp_path) == output


def test_the_guide_has_all_its_programs() -> None:
    assert len(GUIDE) == 10


def test_the_readme(tmp_path: Path) -> None:
    [(program, _)] = snippets(PACKAGE / "README.md")
    assert run(["-c", program], tmp_path) == "b'red'\n"


EXAMPLES = {
    "streams_example.py": "wrote 2 events\nread 'a book', written at ",
    "queues_example.py": "delivered 'to: ada', attempt 1\n",
    "kv_example.py": "user:1 is Ada\nusers: ['user:1', 'user:2']\nvalues: ['Ada', 'Grace']\n",
}
ENDINGS = {
    "streams_example.py": "billing is 0 behind\n",
    "queues_example.py": "replayed 'to: nobody' as job 4\n3 done, 1 failed, 1 waiting\n",
    "kv_example.py": ': no key "theme" in acme/shop/kv/sessions\n',
}


@pytest.mark.parametrize("where", ["embedded", "server"])
@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example(example: str, where: str, own_server: Server, tmp_path: Path) -> None:
    assert sorted(EXAMPLES) == sorted(path.name for path in (PACKAGE / "examples").glob("*.py"))
    endpoint = "embedded:" if where == "embedded" else own_server.endpoint
    said = run([str(PACKAGE / "examples" / example), endpoint], tmp_path)
    assert said.startswith(EXAMPLES[example])
    assert said.endswith(ENDINGS[example])
