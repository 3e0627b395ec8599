"""Code points by the numbers of their RFCs, and what link layers make of them."""

from __future__ import annotations

import pytest

from worker.evaluation import dscp


@pytest.mark.parametrize(
    ("name", "number", "octet", "reference"),
    [
        ("EF", 46, 0xB8, "RFC 3246"),
        ("VA", 44, 0xB0, "RFC 5865"),
        ("LE", 1, 0x04, "RFC 8622"),
        ("AF11", 10, 0x28, "RFC 2597"),
        ("AF31", 26, 0x68, "RFC 2597"),
        ("AF43", 38, 0x98, "RFC 2597"),
        ("CS1", 8, 0x20, "RFC 2474"),
        ("CS7", 56, 0xE0, "RFC 2474"),
        ("CS0", 0, 0x00, "RFC 2474"),
        ("11", 11, 0x2C, ""),
    ],
)
def test_names_numbers_and_octets(name: str, number: int, octet: int, reference: str) -> None:
    """The octet is the code point shifted by the two ECN bits; 0x2E is not AF31 but DSCP 11 with ECN bits."""
    point = dscp.parse(name.lower())
    assert (point.name, point.number, point.octet(), point.reference) == (name, number, octet, reference)
    assert dscp.code_point(number) == point
    assert dscp.named(octet) == name
    assert dscp.named(0x2E) == "11 ECT(0)"
    assert dscp.named(0xBB) == "EF CE"


def test_several_names_of_one_number_are_one_class() -> None:
    """DF and BE are CS0, and a number with a name has that name."""
    assert {dscp.parse(text).name for text in ("DF", "BE", "CS0", "0", "00")} == {"CS0"}
    assert dscp.parse("46").name == "EF"
    assert len({dscp.code_point(number).name for number in range(64)}) == 64


@pytest.mark.parametrize("text", ["", "64", "EFF", "AF44", "AF51", "CS8", "-1", "4 6", "0x2e", "\u0664"])
def test_what_is_no_code_point_is_refused(text: str) -> None:
    """With the names that there are."""
    with pytest.raises(dscp.DscpError, match="AF11 to AF43"):
        dscp.parse(text)


def test_a_class_is_described_in_words() -> None:
    """RFC 4594's word for what it is meant for, the RFC that defines it, Wi-Fi's category; nothing that no RFC says."""
    assert dscp.described(dscp.parse("EF")) == {
        "service_class": "telephony", "defined_by": "RFC 3246", "access_category": "AC_VO",
    }  # fmt: skip
    assert dscp.described(dscp.parse("11")) == {"access_category": "AC_BE"}
    assert dscp.parse("AF23").service_class == "low-latency data"
    assert dscp.parse("CS7").service_class == ""


@pytest.mark.parametrize(
    ("names", "user_priority", "category"),
    [
        ("CS7 CS6", 7, "AC_VO"),
        ("EF VA", 6, "AC_VO"),
        ("CS5", 5, "AC_VI"),
        ("AF41 AF42 AF43 CS4 AF31 AF32 AF33 CS3", 4, "AC_VI"),
        ("AF21 AF22 AF23", 3, "AC_BE"),
        ("CS2 AF11 AF12 AF13 CS0 11 63", 0, "AC_BE"),
        ("CS1 LE", 1, "AC_BK"),
    ],
)
def test_wifi_carries_them_as_rfc_8325_says(names: str, user_priority: int, category: str) -> None:
    """Section 4.3, class by class; LE as RFC 8622 has it."""
    for name in names.split():
        point = dscp.parse(name)
        assert (point.user_priority, point.access_category) == (user_priority, category), name


def test_ethernet_carries_the_class_selector() -> None:
    """802.1p has the three high bits, and lower effort below best effort."""
    found = {name: dscp.parse(name).cos for name in ("CS0", "AF13", "AF41", "EF", "CS6", "LE", "63")}
    assert found == {"CS0": 0, "AF13": 1, "AF41": 4, "EF": 5, "CS6": 6, "LE": 1, "63": 7}
