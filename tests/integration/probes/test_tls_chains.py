"""Chains as servers send them, well and badly: valid where `openssl` finds a path, and what is not needed is no problem."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.probes.peers import Probe
from integration.probes.webserver import WebServer
from support.certificates import Issued, issue, server_context

from streamswarm.v1 import probe_pb2
from worker.probing import ProbeFailure
from worker.wire import tls, tls_validation

ROOT = issue("Test Root", authority=True, days=1000)
OLD = issue("Old Root", authority=True, days=1000)
#: The same authority as ROOT, vouched for by the old one; in its time and after.
CROSS = issue("Test Root", OLD, authority=True, key=ROOT.key, days=300)
CROSS_EXPIRED = issue("Test Root", OLD, authority=True, key=ROOT.key, days=-3)
MIDDLE = issue("Test Middle", ROOT, authority=True, days=200)
MIDDLE_EXPIRED = issue("Test Middle", ROOT, authority=True, days=-2, key=MIDDLE.key)
STRANGER = issue("Stranger", authority=True, days=500)
STRANGER_EXPIRED = issue("Stranger", authority=True, days=-5)
ROOT_EXPIRED = issue("Test Root", authority=True, days=-1, key=ROOT.key)
LEAF = issue("leaf", MIDDLE, names=("localhost",), days=100)
LEAF_EXPIRED = issue("leaf", MIDDLE, names=("localhost",), days=-1)
#: An authority that may vouch for clients only, and what it vouches for.
MIDDLE_OF_CLIENTS = issue("Test Clients", ROOT, authority=True, days=200, for_servers=False)
LEAF_OF_CLIENTS = issue("leaf", MIDDLE_OF_CLIENTS, names=("localhost",), days=100)
LEAF_FOR_CLIENTS = issue("leaf", MIDDLE, names=("localhost",), days=100, for_servers=False)

#: What is trusted, what is sent, how many of it no path needs, and the beginning of what is wrong; empty for nothing.
CHAINS: dict[str, tuple[list[Issued], list[Issued], int, str]] = {
    "plain": ([ROOT], [LEAF, MIDDLE], 0, ""),
    "with its root": ([ROOT], [LEAF, MIDDLE, ROOT], 0, ""),
    "in the wrong order": ([ROOT], [LEAF, ROOT, MIDDLE], 0, ""),
    "with a stranger": ([ROOT], [LEAF, STRANGER, MIDDLE], 1, ""),
    "with an expired stranger": ([ROOT], [LEAF, MIDDLE, STRANGER_EXPIRED], 1, ""),
    "cross-signed, by an authority that is trusted": ([OLD], [LEAF, MIDDLE, CROSS], 0, ""),
    "cross-signed, and not needed": ([ROOT], [LEAF, MIDDLE, CROSS], 1, ""),
    "cross-signed, expired and not needed": ([ROOT], [LEAF, MIDDLE, CROSS_EXPIRED, OLD], 2, ""),
    "cross-signed, expired and needed": ([OLD], [LEAF, MIDDLE, CROSS_EXPIRED], 0, "expired: the certificate of Test Root"),
    "cross-signed twice": ([OLD], [LEAF, MIDDLE, CROSS_EXPIRED, CROSS], 1, ""),
    "with an expired twin of its middle": ([ROOT], [LEAF, MIDDLE_EXPIRED, MIDDLE], 1, ""),
    "with an expired middle": ([ROOT], [LEAF, MIDDLE_EXPIRED], 0, "expired: the certificate of Test Middle"),
    "without its middle": ([ROOT], [LEAF], 0, "missing intermediate or unknown authority"),
    "with a stranger in its middle's place": ([ROOT], [LEAF, STRANGER], 1, "missing intermediate or unknown authority"),
    "expired": ([ROOT], [LEAF_EXPIRED, MIDDLE], 0, "expired: the server's certificate"),
    "expired twice": ([ROOT], [LEAF_EXPIRED, MIDDLE_EXPIRED], 0, "expired: the server's certificate"),
    "expired, with an expired stranger": ([ROOT], [LEAF_EXPIRED, MIDDLE, STRANGER_EXPIRED], 1, "expired: the server's certificate"),
    "of an unknown root": ([STRANGER], [LEAF, MIDDLE, ROOT], 0, "unknown authority"),
    "of an authority for clients only": ([ROOT], [LEAF_OF_CLIENTS, MIDDLE_OF_CLIENTS], 0, "the chain is not valid: unsuitable certificate purpose"),
    "for clients only": ([ROOT], [LEAF_FOR_CLIENTS, MIDDLE], 0, "the server's certificate says that it is not for TLS servers"),
    "of a root that has expired here": ([ROOT_EXPIRED], [LEAF, MIDDLE], 0, "the chain is not valid: certificate has expired (CN=Test Root"),
}  # fmt: skip


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of the authorities that this process trusts, to be written before the first run."""
    file = tmp_path / "roots.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    for known in (tls_validation.authorities, tls.client_context):
        known.cache_clear()
    yield file
    for known in (tls_validation.authorities, tls.client_context):
        known.cache_clear()


def openssl(*arguments: str) -> str:
    """Return what openssl says."""
    done = subprocess.run(
        ["openssl", *arguments], input="", capture_output=True, text=True, timeout=20, check=False
    )
    return done.stdout + done.stderr


def openssl_verify(folder: Path, roots: Path, sent: list[Issued]) -> bool:
    """Whether `openssl verify` finds a path of certificates that are for servers."""
    own, others = folder / "own.pem", folder / "others.pem"
    own.write_bytes(sent[0].pem)
    others.write_bytes(b"".join(one.pem for one in sent[1:]))
    untrusted = ["-untrusted", str(others)] if sent[1:] else []
    said = openssl(
        "verify",
        "-purpose",
        "sslserver",
        "-no-CApath",
        "-no-CAstore",
        "-CAfile",
        str(roots),
        *untrusted,
        str(own),
    )
    assert ("own.pem: OK" in said) is not ("error" in said), said
    return "own.pem: OK" in said


@pytest.mark.parametrize("name", CHAINS)
async def test_a_chain_is_valid_where_openssl_finds_a_path(
    probe: Probe, tmp_path: Path, trusted: Path, name: str, no_leak: None
) -> None:
    """`openssl verify` and `openssl s_client` say the same; what no path needs is a note, also when it has expired."""
    roots, sent, unneeded, words = CHAINS[name]
    trusted.write_bytes(b"".join(root.pem for root in roots))
    server = WebServer(server_context(tmp_path, *sent))
    try:
        outcome = await probe("tls", f"localhost:{server.port}", verify=False)
        seen = await asyncio.to_thread(
            openssl, "s_client", "-connect", f"localhost:{server.port}", "-servername", "localhost", "-no-CApath",
            "-no-CAstore", "-CAfile", str(trusted),
        )  # fmt: skip
        code = re.search(r"Verify return code: (\d+)", seen)
        assert code is not None, seen
        assert (
            outcome.metrics.chain_valid
            is (code[1] == "0")
            is openssl_verify(tmp_path, trusted, sent)
            is (not words)
        )
        if words:
            with pytest.raises(ProbeFailure, match=re.escape(words)) as caught:
                await probe("tls", f"localhost:{server.port}")
            assert caught.value.reason == probe_pb2.FAILURE_REASON_BAD_CERTIFICATE
        else:
            await probe("tls", f"localhost:{server.port}", min_days_left=50)
    finally:
        server.close()
    assert [problem.startswith(words) for problem in outcome.detail["problems"][:1]] == [True] * bool(words)
    assert len(outcome.detail.get("notes", [])) == unneeded
    assert outcome.metrics.chain_length == len(sent)


async def test_a_damaged_file_of_authorities_does_not_keep_their_folder_from_being_used(
    probe: Probe, tmp_path: Path, trusted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with every other client of OpenSSL on this host, such as `http`."""
    trusted.write_text("damaged")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "root.pem").write_bytes(ROOT.pem)
    openssl("rehash", str(folder))
    monkeypatch.setenv("SSL_CERT_DIR", str(folder))
    server = WebServer(server_context(tmp_path, LEAF, MIDDLE))
    try:
        assert (await probe("http", f"https://localhost:{server.port}/")).metrics.status == 200
        assert (await probe("tls", f"localhost:{server.port}")).metrics.chain_valid
    finally:
        server.close()
