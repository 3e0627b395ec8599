"""The answers of a trace for people and programs, in the shape that RIPE Atlas gives to traceroutes.

Reference: https://atlas.ripe.net/docs/apis/result-format/ (hop, result, from, rtt, size, ttl, err, icmpext, x).
"""

from __future__ import annotations

from typing import Any

from worker.wire.trace import extensions
from worker.wire.trace.hops import Hop
from worker.wire.trace.plan import Answer, Probe

#: Answers that are told one by one; further ones are in the metrics of their hop.
MOST_ANSWERS = 400
#: Extension structures that are told; they are longer than what they stand beside.
MOST_EXTENSIONS = 64

#: Letters for ICMP unreachable codes, by IP version.
_ERRORS = {
    4: {0: "N", 1: "H", 2: "P", 3: "p", 9: "A", 10: "A", 13: "A"},
    6: {0: "N", 1: "A", 3: "H", 4: "p"},
}
_UNREACHABLE = {4: 3, 6: 1}
_SEGMENTS = {0x12: "SA", 0x14: "RA"}


def hops(found: list[Hop], version: int, names: dict[str, str]) -> list[dict[str, Any]]:
    """Return all hops with their answers; names of routers where they are known."""
    most = max(1, MOST_ANSWERS // len(found)) if found else 0
    told = []
    room = MOST_EXTENSIONS
    for hop in found:
        results = []
        for probe in hop.probes[:most] if len(hop.probes) > most else hop.probes:
            answer = probe.answer
            if answer is None:
                results.append({"x": "*"} if not probe.flow else {"x": "*", "flow": probe.flow})
                continue
            result = _result(probe, answer, version, names)
            if answer.message is not None and room:
                found_extension = extension(answer, version)
                if found_extension is not None:
                    result["icmpext"] = found_extension
                    room -= 1
            results.append(result)
        entry: dict[str, Any] = {"hop": hop.ttl, "result": results}
        if len(hop.probes) > most:
            entry["left_out"] = len(hop.probes) - most
        told.append(entry)
    return told


def extension(answer: Answer, version: int) -> dict[str, Any] | None:
    """Return the labels and interfaces that came with an answer."""
    if answer.message is None:
        return None
    structure = extensions.structure(answer.message, version)
    return None if structure is None else extensions.parse(structure)


def _result(probe: Probe, answer: Answer, version: int, names: dict[str, str]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "from": answer.source,
        "rtt": (answer.rtt_ns + 500) // 1000 / 1000,
        "size": answer.size,
    }
    if answer.ttl is not None:
        result["ttl"] = answer.ttl
    if probe.flow:
        result["flow"] = probe.flow
    if names and answer.source in names:
        result["name"] = names[answer.source]
    if answer.type is None:
        result["flags"] = _SEGMENTS.get(answer.code & 0x16, "R")
    elif answer.type == _UNREACHABLE[version]:
        result["err"] = _ERRORS[version].get(answer.code, answer.code)
    return result
