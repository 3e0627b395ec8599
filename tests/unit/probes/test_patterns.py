"""Patterns that a controller of an older release has let through: the test is wrong, not the server."""

from __future__ import annotations

import pytest

from streamswarm.v1 import probe_pb2
from streamswarm.v1.probes.dns_pb2 import DnsSpec
from streamswarm.v1.probes.http_pb2 import HttpSpec
from worker.evaluation.dns_demands import Demands
from worker.http import demands
from worker.probing import ProbeFailure


@pytest.mark.parametrize("pattern", ["(open", "(a{1000}){1000}"])
def test_no_run_begins_with_such_a_pattern(pattern: str) -> None:
    """What is demanded is read before anything is sent."""
    with pytest.raises(ProbeFailure, match="the test's `body_pattern`: no regular expression") as caught:
        demands.demands(HttpSpec(body_pattern=pattern))
    assert caught.value.reason == probe_pb2.FAILURE_REASON_INVALID_TEST
    with pytest.raises(ProbeFailure, match="is not a regular expression") as caught:
        Demands.of(DnsSpec(answer_pattern=pattern, pattern_syntax="regex"))
    assert caught.value.reason == probe_pb2.FAILURE_REASON_INVALID_TEST
