"""YAML with line numbers, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.suites.document import MAX_BYTES, DocumentError, parse, read

TEXT = """\
suite: Office
tests:
  - name: Ping
    spec: {count: 3,
           interval_ms: 20}
    assert:
      - a
      - b
  - name: &n Web
    description: *n
"""


def test_values_and_their_lines() -> None:
    """Plain values come out, and every path knows its line; one that is not there knows its surroundings'."""
    document = parse(TEXT, name="office.yaml")
    assert document.values["tests"][1] == {"name": "Web", "description": "Web"}
    assert document.values["tests"][0]["spec"] == {"count": 3, "interval_ms": 20}
    lines = {
        "": 1,
        "suite": 1,
        "tests": 2,
        "tests[0]": 3,
        "tests[0].spec.interval_ms": 5,
        "tests[0].assert[1]": 8,
        "tests[1].name": 9,
        "tests[0].spec.nothing": 4,
        "tests[1].kind": 9,
        "elsewhere": 1,
    }
    assert {path: document.line(path) for path in lines} == lines
    assert document.at("tests[1].kind") == "office.yaml:9"


def bomb(levels: int) -> str:
    """A text of a few lines that unfolds to 10 to the power of `levels` values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f.yaml: is empty"),
        ("# nothing\n", "f.yaml: is empty"),
        ("a: 1\nb: [1, 2", "f.yaml:2: is not YAML"),
        ("a: 1\n\tb: 2", "f.yaml:2: is not YAML"),
        ("a: 1\n---\nb: 2", "f.yaml:2: is not YAML"),
        ("a: 1\nb: 2\na: 3", "f.yaml:3: `a` is there twice"),
        ("a: 1\n? [1, 2]\n: 3", "f.yaml:2: a name in a mapping must be a word"),
        ("a: !!python/object/apply:os.system [id]", "f.yaml:1: the tag"),
        ("a: !!python/name:os.system x", "f.yaml:1:"),
        ("a: !!python/object:os.x {}", "f.yaml:1: the tag"),
        ("a: 1\nb: 2030-02-31", "f.yaml:2:"),
        ("a: &x {b: 1}\nc:\n  <<: *x", "f.yaml:3: `<<` is not merged here"),
        (bomb(9), "unfolds to more than"),
        ("a: &a [*a]", "f.yaml:1: is nested more than"),
        ("[" * 30 + "]" * 30, "f.yaml:1: is nested more than 20 deep"),
        ("[" * 100_000, "f.yaml:1: is nested too deeply"),
        ("a: 1\nb: \x00", "f.yaml:2: is not YAML: it has the character"),
        (f"a: 1{':59' * 5000}", "f.yaml:1: has 15001 characters and is no text"),
        (f"a: {'9' * 5000}", "f.yaml:1: has 5000 characters and is no text"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    """Each fault is one message with file and line, a bomb is not unfolded."""
    with pytest.raises(DocumentError) as caught:
        parse(text, name="f.yaml")
    assert message in str(caught.value)
    assert "\n" not in caught.value.message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a folder, one that is too large and one that is no text are told by name."""
    large, latin, folder = tmp_path / "large", tmp_path / "latin", tmp_path
    large.write_bytes(b"#" * (MAX_BYTES + 1))
    latin.write_bytes(b"a: 1\nb: \xe4\n")
    for path, message in (
        (tmp_path / "none.yaml", "none.yaml: there is no such file"),
        (folder, "cannot be read: Is a directory"),
        (large, f"has more than {MAX_BYTES} bytes"),
        (latin, "latin:2: is not UTF-8 text"),
    ):
        with pytest.raises(DocumentError) as caught:
            read(path)
        assert message in str(caught.value)
        assert caught.value.exit_code == 2
