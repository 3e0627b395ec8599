"""What is wrong with certificates, in words; names as RFC 9525 matches them."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from support.certificates import Issued, issue

from worker import certificates
from worker.certificates import Matter

NOW = dt.datetime.now(dt.timezone.utc)
ROOT = issue("Test Root", authority=True, days=1000)
MIDDLE = issue("Test Middle", ROOT, authority=True, days=500)
LEAF = issue("www.example.org", MIDDLE, names=("www.example.org", "192.0.2.1"))


def problems(
    *chain: Issued, host: str = "www.example.org", error: str | None = None
) -> list[tuple[Matter, str]]:
    """Return what is wrong with a chain."""
    path = certificates.path_of([certificates.read(one.der) for one in chain], NOW)
    found = certificates.problems(path, sent=len(chain), host=host, now=NOW, validation_error=error)
    return [(problem.matter, problem.text) for problem in found]


def test_a_good_chain_has_no_problems() -> None:
    """With the root or without."""
    assert problems(LEAF, MIDDLE) == []
    assert problems(LEAF, MIDDLE, ROOT, host="192.0.2.1") == []


def test_what_a_certificate_says() -> None:
    """Names, key, signature, days, fingerprint."""
    facts = certificates.read(LEAF.der)
    assert (facts.subject, facts.issuer, facts.self_issued) == ("www.example.org", "Test Middle", False)
    assert (facts.key_type, facts.key_bits, facts.signature) == ("ec (secp256r1)", 256, "ecdsa with sha256")
    assert facts.days_left(NOW) == pytest.approx(30, abs=0.01)
    assert facts.fingerprint == LEAF.certificate.fingerprint(hashes.SHA256()).hex()
    assert facts.dns_names == ("www.example.org",)
    assert facts.addresses == ("192.0.2.1",)


@pytest.mark.parametrize(
    ("chain", "error", "words"),
    [
        ([issue("a", MIDDLE, names=("www.example.org",), days=-1), MIDDLE], "certificate has expired", "expired: the server's certificate"),
        ([LEAF, issue("Test Middle", ROOT, authority=True, days=-1, key=MIDDLE.key)], "certificate has expired", "expired: the certificate of Test Middle"),
        ([issue("a", MIDDLE, names=("www.example.org",), since_days=-1), MIDDLE], "certificate is not yet valid", "not yet valid: the server's certificate"),
        ([issue("a", names=("www.example.org",))], "self-signed certificate", "self-signed: the server's certificate vouches for itself"),
        ([LEAF, MIDDLE, ROOT], "self-signed certificate in certificate chain", "unknown authority: the chain ends at Test Root"),
        ([LEAF], "unable to get local issuer certificate", "missing intermediate or unknown authority: the server sends only its own certificate, and Test Middle"),
        ([LEAF, MIDDLE], "unable to get issuer certificate", "the server sends 2 certificates, and Test Root"),
        ([LEAF, MIDDLE], "permitted subtree violation", "the chain is not valid: permitted subtree violation"),
        ([issue("a", MIDDLE, names=("www.example.org",), for_servers=False)], None, "not for TLS servers"),
        ([issue("a", MIDDLE, names=("www.example.org",), for_servers=False)], "unsuitable certificate purpose", "not for TLS servers"),
        ([LEAF, MIDDLE], "unsuitable certificate purpose", "the chain is not valid: unsuitable certificate purpose"),
    ],
    ids=["expired", "expired-above", "not-yet", "self-signed", "unknown-root", "alone", "incomplete", "other", "purpose", "purpose-validated", "purpose-above"],
)  # fmt: skip
def test_each_problem_of_the_chain_is_one_sentence(
    chain: list[Issued], error: str | None, words: str
) -> None:
    """Being out of time and not being trusted for it are one problem, not two."""
    [(matter, text)] = problems(*chain, error=error)
    assert matter == Matter.CHAIN
    assert words in text


def test_the_path_is_found_whatever_else_is_sent() -> None:
    """In any order, past strangers; of two with one name the one that is in its time."""
    old = issue("Test Middle", ROOT, authority=True, days=-1, key=MIDDLE.key)
    early = issue("Test Middle", ROOT, authority=True, since_days=-5, key=MIDDLE.key)
    stranger = issue("Stranger", authority=True, days=-1)
    sent = [certificates.read(one.der) for one in (LEAF, stranger, ROOT, early, old, MIDDLE)]
    path = certificates.path_of(sent, NOW)
    assert path == [sent[0], sent[5], sent[2]]
    assert [note.split(",")[0] for note in certificates.notes(sent, path, NOW)] == [
        "not needed: the certificate of Stranger",
        "not needed: the certificate of Test Middle",
        "not needed: the certificate of Test Middle",
    ]
    told = certificates.notes(sent, path, NOW)
    assert ["which was good until" in note for note in told] == [True, False, True]
    assert "which is good from" in told[1]
    assert certificates.path_of(sent[:5], NOW)[1] == sent[3]
    assert certificates.path_of(sent[:1], NOW) == sent[:1]


def test_problems_do_not_hide_each_other() -> None:
    """An expired certificate that vouches for itself, for another name."""
    found = problems(issue("b", names=("b.example.org",), days=-1), error="self-signed certificate")
    assert [text.split(":")[0] for _matter, text in found] == ["expired", "self-signed", "host name mismatch"]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (rsa.generate_private_key(public_exponent=65537, key_size=1024), "a key of 1024 bits (rsa)"),  # noqa: S505  what is to be found
        (ec.generate_private_key(ec.SECP192R1()), "a key of 192 bits (ec (secp192r1))"),
    ],
    ids=["rsa", "ec"],
)
def test_weak_keys_are_told(key: Any, words: str) -> None:
    """By the size that their type needs."""
    [(matter, text)] = problems(issue("a", MIDDLE, names=("www.example.org",), key=key))
    assert matter == Matter.STRENGTH
    assert text == f"weak key: the server's certificate has {words}"


def test_weak_signatures_are_told() -> None:
    """Of all but those that vouch for themselves."""
    [own, root] = (
        replace(certificates.read(one.der), signature="ecdsa with sha1", signature_hash="sha1")
        for one in (LEAF, ROOT)
    )
    [problem] = certificates.problems(
        [own, root], sent=2, host="www.example.org", now=NOW, validation_error=None
    )
    assert problem.text == "weak signature: the server's certificate is signed by ecdsa with sha1"


def test_other_keys_are_read() -> None:
    """Ed25519 has no hash of its own."""
    key = ed25519.Ed25519PrivateKey.generate()
    facts = certificates.read(issue("a", MIDDLE, key=key).der)
    assert (facts.key_type, facts.key_bits) == ("ed25519", 256)


@pytest.mark.parametrize(
    ("pattern", "host", "fits"),
    [
        ("www.example.org", "WWW.example.org", True),
        ("www.example.org", "example.org", False),
        ("*.example.org", "www.example.org", True),
        ("*.example.org", "a.b.example.org", False),
        ("*.example.org", "example.org", False),
        ("w*.example.org", "www.example.org", False),
        ("www.*.org", "www.example.org", False),
        ("*", "localhost", False),
        ("192.0.2.1", "192.0.2.1", False),
    ],
)
def test_names_fit_as_rfc_9525_says(pattern: str, host: str, fits: bool) -> None:
    """A star is one whole label, the leftmost; an address is no name."""
    facts = certificates.read(issue("a", names=("other.example.org",)).der)
    facts = replace(facts, dns_names=(pattern,), addresses=())
    assert certificates.is_for(facts, host) is fits


def test_a_common_name_is_no_name() -> None:
    """RFC 9525, section 2: clients have not looked at it for years."""
    [(matter, text)] = problems(issue("www.example.org", MIDDLE))
    assert matter == Matter.NAME
    assert "for no name at all" in text


@given(
    st.lists(st.tuples(st.integers(0, len(LEAF.der) - 1), st.integers(0, 255)), max_size=5),
    st.integers(0, len(LEAF.der)),
)
def test_spoiled_certificates_are_read_or_refused(changes: list[tuple[int, int]], length: int) -> None:
    """Up to five bytes changed, and cut anywhere: facts, or ValueError."""
    data = bytearray(LEAF.der)
    for position, value in changes:
        data[position] = value
    try:
        facts = certificates.read(bytes(data[:length]))
    except ValueError:
        return
    found = certificates.problems([facts], sent=1, host="www.example.org", now=NOW, validation_error=None)
    assert all(problem.text.isprintable() for problem in found)
