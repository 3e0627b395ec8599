"""The reference of the worker's files has a row for each key, and for nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import yaml

from worker.config import WorkerConfig
from worker.policy import _KEYS as POLICY_KEYS

ROOT = Path(__file__).parents[3]
CONFIGURATION, POLICY = (
    (ROOT / "docs/reference/worker.md").read_text(encoding="utf-8").split("\n## `policy.yaml`\n")
)


def rows(text: str) -> dict[str, str]:
    """Return the defaults of a table by their key, without the marks of code."""
    lines = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    return {cells[1].strip(" `"): cells[2].strip(" `") for cells in lines}


def test_every_key_of_the_configuration_is_documented() -> None:
    """With its default, where that is a value."""
    found = rows(CONFIGURATION)
    fields = {field.name: field for field in dataclasses.fields(WorkerConfig)}
    assert list(found) == list(fields)
    for name, field in fields.items():
        if field.default not in (dataclasses.MISSING, (), "", None):
            assert found[name] == str(field.default)


def test_every_key_of_the_policy_is_documented() -> None:
    """In the order in which the worker names them."""
    assert list(rows(POLICY)) == list(POLICY_KEYS)


def test_the_role_takes_what_the_worker_takes() -> None:
    """All keys of the policy; of the configuration what the role does not set by itself."""
    specs = yaml.safe_load(
        (ROOT / "playbooks/roles/worker/meta/argument_specs.yml").read_text(encoding="utf-8")
    )
    options = specs["argument_specs"]["main"]["options"]
    assert set(options["streamswarm_worker_policy"]["options"]) == set(POLICY_KEYS)
    own = {"gateways", "enrolment", "ca_file", "token_file", "host_name", "data_dir", "policy_file", "user"}
    assert set(options["streamswarm_worker_options"]["options"]) == set(rows(CONFIGURATION)) - own
