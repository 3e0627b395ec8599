"""What all tests share: a retried failure is shown with its reason, so that no retry hides anything."""

from __future__ import annotations

import signal

import pytest


def pytest_configure() -> None:
    """Have what tests start hear Ctrl-C, also when the tests run in a shell's background, which ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show why each test that was tried again had failed."""
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"tried again: {report.nodeid}", sep="_")
        terminalreporter.write_line(report.longreprtext)
