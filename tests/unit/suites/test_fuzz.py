"""Any text is a suite or is refused with a file, a line and words."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from controller.suites.document import DocumentError, parse
from controller.suites.suite import SuiteError, check

_WORDS = st.sampled_from(
    ["tests:", "- ", "  ", "\n", "name: a", "kind: ping", "assert:", "[", "{", "&a", "*a", "<<:", "!!python/object:os.system",
     "destinations:", "'", '"', "|", ">", "---", "? ", "interval: 1s", "- loss_pct < 5 %", "\t", "#", "0x", ".inf"]
)  # fmt: skip


@settings(deadline=None)
@given(st.text(max_size=300) | st.lists(_WORDS, max_size=30).map("".join))
@example("[" * 2_000)
@example("a: &a [*a]")
@example("tests: " + "{a: " * 200)
def test_any_text_is_a_suite_or_refused(text: str) -> None:
    """Nothing else is raised, and nothing is executed."""
    try:
        check(parse(text, name="suite.yaml"))
    except (DocumentError, SuiteError) as error:
        assert "suite.yaml" in str(error)
