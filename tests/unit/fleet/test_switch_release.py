"""The program that moves a host from one release to another."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support import programs

PROGRAM = Path(__file__).parents[3] / "playbooks/roles/worker/files/switch_release.py"
OLD, NEW = "1.0+old", "1.1+new"


@pytest.fixture(scope="module")
def program() -> ModuleType:
    """The program as a module."""
    return programs.load(PROGRAM)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An installation with two releases, on the older one."""
    for release in (OLD, NEW):
        (tmp_path / "releases" / release).mkdir(parents=True)
        (tmp_path / "releases" / release / "release.json").write_text("{}")
    (tmp_path / "current").symlink_to(f"releases/{OLD}")
    return tmp_path


class Service:
    """A unit whose worker is well with some releases, and each call of which may be cut off."""

    def __init__(self, program: Any, folder: Path, *well: str) -> None:
        self._program = program
        self._folder = folder
        self.well = set(well)
        self.running = OLD
        self.calls: list[str] = []
        self.cut: Callable[[str], bool] = lambda call: False

    def start(self) -> None:
        """Start what `current` leads to, unless something runs."""
        self._call("start")
        self.running = self.running or (self._folder / "current").readlink().name

    def stop(self) -> None:
        """Stop it."""
        self._call("stop")
        self.running = ""

    def health(self) -> Any:
        """Say how it is."""
        well = self.running in self.well
        status = "connected as host1" if well else "not connected: nobody answers"
        return self._program.Health(active=bool(self.running), pid=7, restarts=0, status=status)

    def runs(self, release: str, pid: int) -> bool:
        """Whether that release runs."""
        return self.running == release

    def last_words(self) -> str:
        """What it said last."""
        return "its last words"

    def _call(self, name: str) -> None:
        if self.cut(name):
            raise PowerCut
        self.calls.append(name)


class PowerCut(BaseException):
    """The host is off."""


def _trial(program: Any) -> Any:
    return program.Trial(timeout_s=0.3, settle_s=0.0)


def _switch(program: Any, folder: Path, service: Service, wanted: str = NEW) -> dict[str, Any]:
    done = program.switch(program.Installation(folder), service, wanted, trial=_trial(program))
    assert isinstance(done, dict)
    return done


def _links(folder: Path) -> dict[str, str]:
    return {path.name: path.readlink().name for path in folder.iterdir() if path.is_symlink()}


def test_a_good_release_becomes_the_current_one(program: ModuleType, folder: Path) -> None:
    """The release before stays as the one to go back to; a second run does nothing."""
    service = Service(program, folder, OLD, NEW)
    assert _switch(program, folder, service)["changed"] is True
    assert _links(folder) == {"current": NEW, "previous": OLD}
    assert service.running == NEW
    assert sorted(path.name for path in folder.iterdir()) == ["current", "previous", "releases"]
    assert _switch(program, folder, service)["changed"] is False
    assert service.calls == ["start", "stop", "start", "start"]


def test_a_release_that_does_not_connect_is_taken_back(program: Any, folder: Path) -> None:
    """The message says what it was, and that the host has its release again."""
    service = Service(program, folder, OLD)
    with pytest.raises(program.SwitchError) as told:
        _switch(program, folder, service)
    assert f"the release {NEW} was taken back: it is not connected: nobody answers after 0.3 s" in str(
        told.value
    )
    assert f"The worker runs {OLD} again" in str(told.value)
    assert _links(folder) == {"current": OLD}
    assert service.running == OLD
    assert not (folder / "switching").exists()


def test_nothing_is_changed_when_the_worker_is_not_well_before(program: Any, folder: Path) -> None:
    """A bad release could not be told from a bad network then."""
    service = Service(program, folder, NEW)
    with pytest.raises(program.SwitchError, match="nothing was changed: the worker is not well before"):
        _switch(program, folder, service)
    assert _links(folder) == {"current": OLD}
    assert "stop" not in service.calls


def test_that_the_network_failed_meanwhile_is_said(program: Any, folder: Path) -> None:
    """When the release before does not connect either, the new one may not be to blame."""
    service = Service(program, folder, OLD)
    service.cut = lambda call: bool(service.well.clear() if call == "stop" else False)
    with pytest.raises(program.SwitchError, match=r"is not well either.*may not be to blame"):
        _switch(program, folder, service)
    assert _links(folder) == {"current": OLD}


@pytest.mark.parametrize("good", [True, False])
@pytest.mark.parametrize("cut_at", range(4))
def test_wherever_the_power_is_cut_there_is_a_release_and_the_next_run_decides(
    program: Any, folder: Path, cut_at: int, good: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before and after the stop, the flip and the start: `current` leads to a whole release, and nothing is forgotten."""
    service = Service(program, folder, OLD, *([NEW] if good else []))
    moments = ["stop", "point", "start after", "watch"]
    moment = moments[cut_at]
    point, seen = program.Installation.point, []

    def pointing(installation: Any, name: str, release: str) -> None:
        if moment == "point":
            raise PowerCut
        point(installation, name, release)
        seen.append(name)

    def cut(call: str) -> bool:
        return call == moment or (moment == "start after" and call == "start" and bool(seen))

    service.cut = cut
    monkeypatch.setattr(program.Installation, "point", pointing)
    if moment == "watch":
        monkeypatch.setattr(program, "watch", _cut_watch(program.watch))
    with pytest.raises(PowerCut):
        _switch(program, folder, service)
    monkeypatch.undo()
    service.cut = lambda call: False
    current = _links(folder)["current"]
    assert current == (OLD if moment in ("stop", "point") else NEW)
    assert (folder / "switching").read_text() == OLD
    service.running = current  # the host has booted
    if good:
        assert _switch(program, folder, service)["changed"] is True
        assert _links(folder) == {"current": NEW, "previous": OLD}
    else:
        with pytest.raises(program.SwitchError, match="was taken back"):
            _switch(program, folder, service)
        assert _links(folder) == {"current": OLD}
    assert not (folder / "switching").exists()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_disk_that_fails_leaves_no_worker_stopped(
    program: Any, folder: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the link was moved or not, the worker is started with what it leads to, and the next run decides."""
    service = Service(program, folder, OLD, NEW)
    point = program.Installation.point

    def pointing(installation: Any, name: str, release: str) -> None:
        if moment == "after":
            point(installation, name, release)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(program.Installation, "point", pointing)
    with pytest.raises(OSError, match="No space left"):
        _switch(program, folder, service)
    assert service.running == _links(folder)["current"] == (OLD if moment == "before" else NEW)
    assert (folder / "switching").read_text() == OLD
    if moment == "after":
        with pytest.raises(OSError, match="No space left"):
            program.roll_back(program.Installation(folder), service, bad=NEW, trial=_trial(program))
        assert service.running == _links(folder)["current"] == OLD
    monkeypatch.undo()
    assert _switch(program, folder, service)["changed"] is True
    assert _links(folder) == {"current": NEW, "previous": OLD}


def test_a_release_whose_trial_was_cut_off_can_be_left_though_it_is_bad(program: Any, folder: Path) -> None:
    """The host is on it only because nobody could move it back; the release before is the one wanted."""
    installation = program.Installation(folder)
    installation.begin(OLD)
    installation.point("current", NEW)
    service = Service(program, folder, OLD)
    service.running = NEW
    assert _switch(program, folder, service, OLD)["changed"] is True
    assert _links(folder) == {"current": OLD}
    assert service.running == OLD
    assert not (folder / "switching").exists()


def _cut_watch(watch: Callable[..., str]) -> Callable[..., str]:
    def cut(service: Any, release: str, trial: Any) -> str:
        if release == NEW:
            raise PowerCut
        return watch(service, release, trial)

    return cut


def test_going_back_is_for_hosts_on_the_bad_release_only(program: Any, folder: Path) -> None:
    """Another host is left alone; one that has gone back has nothing more to go back to."""
    service = Service(program, folder, OLD, NEW)
    _switch(program, folder, service)
    installation = program.Installation(folder)

    def back(bad: str) -> dict[str, Any]:
        done = program.roll_back(installation, service, bad=bad, trial=_trial(program))
        assert isinstance(done, dict)
        return done

    assert back("1.2+other")["changed"] is False
    assert _links(folder)["current"] == NEW
    assert back(NEW) == {"changed": True, "before": NEW, "note": f"The worker runs {OLD} again"}
    assert _links(folder) == {"current": OLD}
    assert back(NEW)["changed"] is False
    with pytest.raises(program.SwitchError, match="no release to go back to"):
        back("")


def test_a_drained_worker_goes_back_and_stays_stopped(program: Any, folder: Path) -> None:
    """Also from an upgrade that was cut off; its unit is not touched, and nobody waits for it."""
    installation, service = program.Installation(folder), Service(program, folder)
    installation.begin(OLD)
    installation.point("current", NEW)
    service.running = ""
    done = program.roll_back(installation, service, bad="", trial=_trial(program), drained=True)
    assert done == {
        "changed": True,
        "before": NEW,
        "note": f"The worker has its release {OLD} again and stays stopped, as it was drained",
    }
    assert (service.calls, service.running) == ([], "")
    assert _links(folder) == {"current": OLD}
    assert not (folder / "switching").exists()


def test_a_release_that_ends_again_and_again_is_given_up_at_once(program: Any, folder: Path) -> None:
    """Its end is not waited for until the time is over."""
    service = Service(program, folder, OLD, NEW)
    counts = iter(range(100))
    service.health = lambda: program.Health(active=False, pid=0, restarts=next(counts), status="")  # type: ignore[method-assign]
    wrong = program.watch(service, NEW, program.Trial(timeout_s=60.0, settle_s=1.0))
    assert wrong == "it ended 2 times (its last words)"


def test_two_at_once_do_not_meet(program: Any, folder: Path) -> None:
    """The second one says so and changes nothing."""
    installation = program.Installation(folder)
    told: list[str] = []

    def second() -> None:
        try:
            with program.Installation(folder).alone():
                told.append("in")
        except program.SwitchError as error:
            told.append(str(error))

    with installation.alone():
        other = threading.Thread(target=second)
        other.start()
        other.join()
    assert told == ["another upgrade of this host is under way; wait for its end"]


def test_what_waits_is_delivered_by_the_release_that_leaves(program: Any) -> None:
    """What is left over is told with its number, and is no failure."""
    said = [sys.executable, "-c", 'print(\'{"waiting": 3, "reason": ""}\')']
    assert program.deliver(said) == "3 results waited on the host and were left to the new release"
    broken = [sys.executable, "-c", "import sys; sys.exit('no such file')"]
    assert "left to the new release: no such file" in program.deliver(broken)
    assert program.deliver([sys.executable, "-c", "print('{\"waiting\": 0}')"]) == ""
