"""Systems and places come from the operator's files, and whatever is in those does no harm."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import mmdb

from worker.wire.trace import places
from worker.wire.trace.places import Place, Places, geography, great_circle_km

BERLIN, PARIS, SYDNEY = (52.52, 13.405), (48.8566, 2.3522), (-33.8688, 151.2093)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One file of systems, one of places."""
    mmdb.write(
        tmp_path / "asn.mmdb",
        {
            "198.51.100.0/24": {
                "autonomous_system_number": 64_500,
                "autonomous_system_organization": "Example",
            },
            "2001:db8::/32": {"autonomous_system_number": 4_200_000_000},
        },
    )
    mmdb.write(
        tmp_path / "city.mmdb",
        {
            "198.51.100.0/25": {
                "city": {"names": {"en": "Berlin"}},
                "country": {"iso_code": "DE"},
                "location": {"latitude": 52.52, "longitude": 13.405},
            },
        },
    )
    return tmp_path


def test_files_complete_each_other(folder: Path) -> None:
    """Each says what it knows."""
    found = Places(folder)
    found.refresh()
    assert found.of("198.51.100.7") == Place(
        as_number=64_500, as_name="Example", country="DE", city="Berlin", latitude=52.52, longitude=13.405
    )
    assert found.of("198.51.100.200") == Place(as_number=64_500, as_name="Example")
    assert found.of("2001:db8::1") == Place(as_number=4_200_000_000)
    assert found.of("192.0.2.1") == Place()
    found.close()


def test_ipv6_addresses_in_a_database_of_ipv4_are_unknown(tmp_path: Path) -> None:
    """No error."""
    mmdb.write(tmp_path / "four.mmdb", {"192.0.2.0/24": {"autonomous_system_number": 1}}, version=4)
    found = Places(tmp_path)
    found.refresh()
    assert found.of("2001:db8::1") == Place()
    assert found.of("192.0.2.1") == Place(as_number=1)
    found.close()


def test_changed_files_are_opened_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the next look; what is no database is left out, with a warning."""
    monkeypatch.setattr(places, "_LOOK_S", 0.0)
    found = Places(folder)
    found.refresh()
    (folder / "city.mmdb").unlink()
    (folder / "asn.mmdb").write_bytes(b"this is no database")
    found.refresh()
    assert found.of("198.51.100.7") == Place()
    found.close()


def test_a_missing_folder_has_no_databases(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is known then, which is told once."""
    found = Places(tmp_path / "missing")
    found.refresh()
    assert found.of("198.51.100.7") == Place()
    assert not found.there
    found._looked_s = -1000
    found.refresh()
    [record] = caplog.records
    assert "there is no database that can be read in" in record.getMessage()


def test_nonsense_in_a_file_is_left_out(tmp_path: Path) -> None:
    """Types and ranges are checked: the file comes from outside."""
    mmdb.write(
        tmp_path / "odd.mmdb",
        {
            "192.0.2.0/24": {
                "autonomous_system_number": "64500",
                "autonomous_system_organization": "a\nb",
                "location": {"latitude": 91.0, "longitude": 0.0},
                "country": "DE",
                "city": {"names": ["Berlin"]},
            }
        },
    )
    found = Places(tmp_path)
    found.refresh()
    assert found.of("192.0.2.1") == Place()
    found.close()


def test_distances_are_those_of_the_great_circle() -> None:
    """Berlin to Paris 878 km, to Sydney 16,090 km; half around the earth at most."""
    assert great_circle_km(BERLIN, PARIS) == pytest.approx(878, rel=0.005)
    assert great_circle_km(BERLIN, SYDNEY) == pytest.approx(16_090, rel=0.005)
    assert great_circle_km((0, 0), (0, 180)) == pytest.approx(20_015, rel=0.001)
    assert great_circle_km((90, 0), (-90, 77)) == pytest.approx(20_015, rel=0.001)


def test_a_detour_lowers_the_efficiency() -> None:
    """By Sydney to Paris."""
    straight = geography([BERLIN, PARIS])
    detour = geography([BERLIN, SYDNEY, PARIS])
    assert straight is not None
    assert detour is not None
    assert straight.efficiency_pct == pytest.approx(100)
    assert detour.distance_km > 30_000
    assert detour.efficiency_pct == pytest.approx(100 * 878 / 33_000, rel=0.03)


def test_fewer_than_two_places_have_no_distance() -> None:
    """And a path that stays where it is has no efficiency."""
    assert geography([BERLIN]) is None
    still = geography([BERLIN, BERLIN])
    assert still is not None
    assert (still.distance_km, still.efficiency_pct) == (0, None)
