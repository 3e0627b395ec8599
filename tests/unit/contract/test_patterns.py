"""How large a regular expression becomes, judged before it is compiled."""

from __future__ import annotations

import pytest

from streamswarm import patterns


@pytest.mark.parametrize(
    "text",
    [
        "((a{1000}){1000}){1000}",
        f"(?:{'a?' * 160}){{9999}}",
        "(a{1000}){1000,}",
        "(a{1000}){,1000}",
        "(?:(?:a{500})+){500}",
        "(a{0001000}){1000}",
        f"(a{{1000}}){{{'9' * 5000}}}",
        r"(\(a{1000}){1000}",
        "([()]a{1000}){1000}",
        "([[:alpha:](]a{1000}[[:alpha:])]){1000}",
        "(?#()(a{1000}){1000}",
    ],
)
def test_what_would_fill_the_memory_is_refused(text: str) -> None:
    """Bounds inside of bounds multiply, however they are written."""
    with pytest.raises(patterns.PatternError, match="is the most"):
        patterns.compiled(text)


@pytest.mark.parametrize("text", ["(?x)(?:a{9 9}b){9 9}", "(?ix) a # )\n", "b(?x:a )"])
def test_free_spacing_is_refused(text: str) -> None:
    """It hides bounds from whoever does not read as the library does."""
    with pytest.raises(patterns.PatternError, match="free spacing"):
        patterns.compiled(text)


@pytest.mark.parametrize(
    "text", ["(?V1)" + "[" * 245 + "a" + "]" * 245, "(?V0)(?V1)a", "(" * 250 + ")" * 250, "[a", "a{2,1}"]
)
def test_what_the_library_stumbles_over_is_refused_in_words(text: str) -> None:
    """Or taken; it never comes out as another error."""
    try:
        assert patterns.compiled(text).pattern == text
    except patterns.PatternError as error:
        assert str(error)


@pytest.mark.parametrize(
    "text",
    [
        "",
        r"\d{1,3}(\.\d{1,3}){3}",
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "begin.{0,5000}?end",
        r"\{1000\}(a{1000})[{9999}]",
        r"\p{Lu}{3,}[]]{2}[^]]{2}(?i:x)*",
    ],
)
def test_usual_expressions_are_compiled(text: str) -> None:
    """Bounds beside each other add up."""
    assert patterns.parts(text) <= patterns.MOST_PARTS
    assert patterns.compiled(text).pattern == text


@pytest.mark.parametrize(
    ("text", "parts"),
    [("abc", 3), ("ab{3}", 4), ("(ab){3}", 9), ("[a-z]{2}", 10), ("a{2}b{3}", 5), ("a{x}", 4)],
)
def test_parts_are_counted(text: str, parts: int) -> None:
    """Characters as often as they may be repeated; a group counts one more."""
    assert patterns.parts(text) == parts
