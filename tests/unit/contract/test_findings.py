"""What a doctor finds is the same for people, for machines and for the exit code."""

from __future__ import annotations

import json

from streamswarm import findings


def test_findings_read_as_a_table() -> None:
    """A line each, its remedy below it, and a sum at the end; nothing that was found can forge a line."""
    found = [
        findings.ok("clock", "0.001 s off"),
        findings.wrong("gateway 192.0.2.1:7443", "says\nok  clock", "mend it"),
        findings.unknown("spool", "nobody can tell"),
    ]
    assert list(findings.as_lines(found)) == [
        "ok       clock                   0.001 s off",
        "wrong    gateway 192.0.2.1:7443  says\\nok  clock",
        "                                 → mend it",
        "unknown  spool                   nobody can tell",
        "1 ok, 1 wrong, 1 unknown",
    ]
    values = json.loads(findings.as_json(found))
    assert values["wrong"] == 1
    assert values["findings"][1] == {
        "check": "gateway 192.0.2.1:7443",
        "verdict": "wrong",
        "found": "says\nok  clock",
        "mend": "mend it",
    }


def test_only_what_is_wrong_ends_with_1() -> None:
    """What nobody can tell is no fault."""
    fine = [findings.ok("a", "b"), findings.unknown("a", "b")]
    assert findings.exit_code(fine) == 0
    assert findings.exit_code([*fine, findings.wrong("a", "b", "c")]) == 1
    assert findings.exit_code([]) == 0
    assert list(findings.as_lines([])) == ["0 ok, 0 wrong, 0 unknown"]
