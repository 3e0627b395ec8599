"""BIND's name server for tests: a signed zone over UDP, TCP, TLS and HTTPS, and a cache in front of it."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from integration.probes.peers import Namespace
from support.surroundings import free_port

_ZONE = """\
$TTL 300
@ IN SOA ns.example.test. root.example.test. 2026112801 7200 3600 1209600 60
@ IN NS ns.example.test.
@ IN MX 10 mail.example.test.
@ IN CAA 0 issue "ca.example.test"
@ IN TXT "v=spf1 -all"
@ IN HTTPS 1 . alpn="h2"
ns IN A 127.0.0.1
www 60 IN A 192.0.2.10
www 60 IN AAAA 2001:db8::10
alias IN CNAME www
_sip._udp IN SRV 1 2 5060 www
_443._tcp IN TLSA 3 1 1 0000000000000000000000000000000000000000000000000000000000000001
host IN SSHFP 4 2 0000000000000000000000000000000000000000000000000000000000000002
host IN LOC 52 22 23.000 N 4 53 32.000 E 10.00m
host IN HINFO "x86" "Linux"
e164 IN NAPTR 100 10 "u" "E2U+sip" "!^.*$!sip:a@example.test!" .
old IN DNAME new.example.test.
svc IN SVCB 1 www
uri IN URI 10 1 "https://www.example.test/"
"""
_CONFIGURATION = """\
tls local { cert-file "%(certificate)s"; key-file "%(key)s"; };
http local { endpoints { "/dns-query"; }; };
controls { };
options {
  directory "%(folder)s"; pid-file none; session-keyfile none; managed-keys-directory "%(folder)s";
  dnssec-validation %(validation)s; minimal-responses no; server-id "the-first";
  listen-on port %(port)d { %(address)s; };
  listen-on port %(tls)d tls local { %(address)s; };
  listen-on port %(https)d tls local http local { %(address)s; };
  listen-on-v6 { none; };
  recursion %(recursion)s; allow-query { any; }; empty-zones-enable no;
};
%(zones)s
"""
_SIGNED = """zone "example.test" { type primary; file "%(folder)s/zone"; dnssec-policy default; inline-signing yes; };"""
_ANCHORED = """trust-anchors { example.test. static-key %(key)s; };"""
_FORWARDED = """zone "example.test" { type forward; forward only; forwarders { 127.0.0.1 port %(to)d; }; };"""


@dataclass(frozen=True, kw_only=True)
class Bind:
    """A name server, and its ports."""

    port: int
    tls: int
    https: int


@contextlib.contextmanager
def named(
    folder: Path,
    *,
    certificate: Path,
    key: Path,
    cache_of: int | None = None,
    anchor: str = "",
    address: str = "127.0.0.1",
    namespace: Namespace | None = None,
) -> Iterator[Bind]:
    """Run BIND with a zone of its own, or as a cache of the server on another port; in a namespace if one is given.

    A cache with an `anchor`, a key of the zone, believes nothing of it that is not signed by that.
    """
    folder.mkdir()
    bind = Bind(port=free_port(), tls=free_port(), https=free_port())
    (folder / "zone").write_text(_ZONE)
    zones = _SIGNED % {"folder": folder} if cache_of is None else _FORWARDED % {"to": cache_of}
    configuration = folder / "named.conf"
    configuration.write_text(
        _CONFIGURATION
        % {
            "folder": folder,
            "address": address,
            "certificate": certificate,
            "key": key,
            "port": bind.port,
            "tls": bind.tls,
            "https": bind.https,
            "recursion": "no" if cache_of is None else "yes",
            "validation": "yes" if anchor else "no",
            "zones": zones + (_ANCHORED % {"key": anchor} if anchor else ""),
        }
    )
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*inside(namespace), "named", "-f", "-g", "-n", "1", "-c", str(configuration)],
            stdout=output,
            stderr=output,
        )
    try:
        # Signing takes a moment; until then answers bear no signatures.
        wanted = "RRSIG" if cache_of is None else "192.0.2.10"
        deadline = time.monotonic() + 30
        asked = ("www.example.test", "A", "+dnssec", "+cdflag")
        while wanted not in dig(bind.port, *asked, address=address, namespace=namespace):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield bind
    finally:
        process.terminate()
        process.wait(20)


def dig(port: int, *arguments: str, address: str = "127.0.0.1", namespace: Namespace | None = None) -> str:
    """Return dig's answer; it sends no cookie, which would be counted."""
    command = ["dig", f"@{address}", "-p", str(port), "+nocookie", "+tries=1", "+time=2", *arguments]
    return subprocess.run([*inside(namespace), *command], capture_output=True, text=True, check=False).stdout


def inside(namespace: Namespace | None) -> list[str]:
    """Return what a command begins with that is to run in a namespace."""
    return [] if namespace is None else ["ip", "netns", "exec", namespace.name]
