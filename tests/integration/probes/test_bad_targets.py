"""Targets that no worker may be talked into: each is a clear error, and no socket is ever opened for it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from urllib.parse import quote

import pytest
from google.protobuf import json_format
from integration.probes.webserver import WebServer
from support.surroundings import clean_environment

from streamswarm import contract
from streamswarm.v1 import probe_pb2

#: The socket for which the kernel stamps what is received, from the beginning on; nothing goes through it.
_FOR_STAMPS = "opened a socket: (<socket.socket fd=-1, family=0, type=0, proto=0>, 2, 2, 0)\n"
#: The worker's command line, with an ear on every socket of the internet that is made or used, and every name looked up.
_SPIED = """
import socket, sys
def hear(event, arguments):
    if event == "socket.__new__" and arguments[1] in (socket.AF_INET, socket.AF_INET6):
        print("opened a socket:", arguments, file=sys.stderr)
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "subprocess.Popen", "os.system"):
        print("asked:", event, arguments, file=sys.stderr)
sys.addaudithook(hear)
from worker.__main__ import main
main()
"""
HOSTS = [
    "-f", "--help", "$(id)", "a;b", "a\0b", "a\r\nb", "x" * 254, "169.254.169.254", "2852039166", "0xa9fea9fe",
    "[::ffff:a9fe:a9fe]", "::ffff:169.254.169.254", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "0.0.0.0", "::",  # noqa: S104
    "127.0.0.1", "::1", "fe80::1%lo", "file:///etc/passwd", "255.255.255.255",
]  # fmt: skip
URLS = [
    "file:///etc/passwd", "gopher://192.0.2.1/", "http://user:secret@192.0.2.1/", "http://192.0.2.1/\r\nX: y",
    "http://169.254.169.254/latest/", "http://2852039166/", "http://0xa9fea9fe/", "http://[::ffff:a9fe:a9fe]/", "http://0.0.0.0/",
    "http://[fd00:ec2::254]/", "http://$(id)/", "http://-f/", "http://a;b/", "http://" + "x" * 254 + "/", "http://127.0.0.1:22/",
]  # fmt: skip


@pytest.mark.parametrize(
    "kind", ["ping", "traceroute", "tcp", "dns", "http", "tls", "tcp_window", "qos", "mtu"]
)
def test_bad_targets_are_refused_and_nothing_is_sent(kind: str) -> None:
    """By every kind that has a destination, under the default policy."""
    targets = URLS if contract.kind(kind).target == "url" else HOSTS
    parameters = {"dns": {"query_name": "example.org"}, "tcp": {"port": 80}}.get(kind, {})
    jobs = [
        probe_pb2.Job(job_id=number + 1, version=1, target=target, spec=contract.make_spec(kind, parameters))
        for number, target in enumerate(targets)
    ]
    done = _run_once(jobs)
    assert done.stderr == "", "something was sent, asked or started"
    assert done.returncode == 1
    results = [json_format.Parse(line, probe_pb2.Result()) for line in done.stdout.splitlines()]
    assert {result.job_id for result in results} == {job.job_id for job in jobs}
    for result in results:
        target = jobs[result.job_id - 1].target
        assert result.status not in (probe_pb2.STATUS_OK, probe_pb2.STATUS_FAILED), target
        assert result.error, target
        assert result.error.isprintable(), target


def test_bad_targets_that_a_server_redirects_to_are_refused_and_nothing_is_sent() -> None:
    """One socket for the server that redirects, none for where it wants to lead."""
    bad = [url for url in URLS if url.isprintable() and "127.0.0.1" not in url]
    server = WebServer()
    try:
        jobs = [
            probe_pb2.Job(
                job_id=number + 1,
                version=1,
                target=server.url(f"/to/302/={quote(url, safe='')}"),
                spec=contract.make_spec("http", {}),
            )
            for number, url in enumerate(bad)
        ]
        done = _run_once(jobs, "--allow-loopback")
        assert len(server.requests) == len(jobs)
    finally:
        server.close()
    heard = done.stderr.splitlines()
    assert len(heard) == len(jobs), heard
    assert all(line.startswith("opened a socket") for line in heard), heard
    results = [json_format.Parse(line, probe_pb2.Result()) for line in done.stdout.splitlines()]
    assert {result.job_id for result in results} == {job.job_id for job in jobs}
    for result in results:
        assert result.status in (probe_pb2.STATUS_FAILED, probe_pb2.STATUS_ERROR), bad[result.job_id - 1]
        assert result.error.isprintable()
        assert result.failure_reason in (
            probe_pb2.FAILURE_REASON_FORBIDDEN,
            probe_pb2.FAILURE_REASON_BAD_ANSWER,
        ), (bad[result.job_id - 1], result.error)


@pytest.mark.parametrize("kind", contract.kinds())
def test_bad_parameters_are_refused_and_nothing_is_sent(kind: str) -> None:
    """Each parameter of each kind beyond its bounds, not among its choices, against its pattern: as no controller sends it."""
    target = {"url": "http://192.0.2.1/", "none": ""}.get(contract.kind(kind).target, "192.0.2.1")
    jobs, asked = [], []
    for parameter in contract.kind(kind).parameters:
        for value in _bad_values(parameter):
            spec = contract.make_spec(kind, {})
            json_format.ParseDict({kind: {parameter.name: [value] if parameter.repeated else value}}, spec)
            asked.append((parameter.name, value))
            jobs.append(probe_pb2.Job(job_id=len(asked), version=1, target=target, spec=spec))
    assert jobs
    done = _run_once(jobs)
    assert done.stderr == "", "something was sent, asked or started"
    results = [json_format.Parse(line, probe_pb2.Result()) for line in done.stdout.splitlines()]
    assert {result.job_id for result in results} == set(range(1, len(asked) + 1))
    for result in results:
        name, value = asked[result.job_id - 1]
        assert result.status == probe_pb2.STATUS_ERROR, (name, value)
        assert result.failure_reason == probe_pb2.FAILURE_REASON_INVALID_TEST, (name, value, result.error)
        assert f"spec.{name}" in result.error
        assert result.error.isprintable()


def _bad_values(parameter: contract.Parameter) -> list[object]:
    """Return values that the type can carry and the parameter does not allow."""
    if parameter.type == "integer":
        bounds = [(parameter.min, -1), (parameter.max, 1)]
        near = [int(bound) + step for bound, step in bounds if bound is not None]
        return [value for value in (*near, -(2**31), 2**31 - 1) if not _within(value, parameter)]
    if parameter.type != "string":
        return []
    bad: list[object] = ["a\0b"]
    if parameter.pattern:
        odd = ("\x1b[31m", "a\u202eb", "\\", " ", "-f;$(id)")
        bad += [text for text in odd if not re.fullmatch(parameter.pattern, text)]
    if parameter.choices:
        bad += ["nothing-of-it", "$(id)"]
    elif parameter.max is not None and not parameter.repeated:
        bad.append("x" * (int(parameter.max) + 1))
    return bad


def _within(value: int, parameter: contract.Parameter) -> bool:
    return (parameter.min is None or value >= parameter.min) and (
        parameter.max is None or value <= parameter.max
    )


def test_the_ear_hears_what_is_sent() -> None:
    """The test above can fail: a target that may be tested is heard."""
    job = probe_pb2.Job(
        job_id=1, version=1, target="127.0.0.1:1", spec=contract.make_spec("tcp", {"timeout_ms": 500})
    )
    assert "opened a socket" in _run_once([job], "--allow-loopback").stderr


def _run_once(jobs: list[probe_pb2.Job], *options: str) -> subprocess.CompletedProcess[str]:
    """Run jobs; what was heard, but for the socket that every worker opens, is in the standard error."""
    lines = [json.dumps(json_format.MessageToDict(job, preserving_proto_field_name=True)) for job in jobs]
    done = subprocess.run(
        [sys.executable, "-c", _SPIED, "--once", *options],
        input="\n".join(lines) + "\n",
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr.startswith(_FOR_STAMPS)
    done.stderr = done.stderr.removeprefix(_FOR_STAMPS)
    return done
