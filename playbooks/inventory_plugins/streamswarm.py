# StreamSwarm's dynamic inventory. It imports Ansible and is therefore under Ansible's licence:
# GNU General Public License v3.0 or later (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives Ansible the controller's own view of its workers, read over the REST API."""

from __future__ import annotations

import http.client
import ipaddress
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from ssl import SSLContext, create_default_context
from typing import Any

from ansible.errors import AnsibleError, AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable
from ansible.utils.unsafe_proxy import wrap_var

DOCUMENTATION = r"""
name: streamswarm
author: StreamSwarm
short_description: Workers that a StreamSwarm controller knows
description:
  - Hosts are the controller's workers, under the names that their hosts have in the inventory they were provisioned
    from.
  - Each is in the groups it was enrolled with, and in groups made of what the controller knows of it - C(online),
    C(offline), C(drained), C(pending) (never enrolled) or C(revoked); C(site_<site>); C(version_<version>);
    C(label_<label>_<value>). What a group's name cannot have becomes an underscore.
  - Its variables are C(streamswarm_worker_id), C(streamswarm_worker_name), C(streamswarm_site), C(streamswarm_labels),
    C(streamswarm_groups), C(streamswarm_version), C(streamswarm_state) (C(connected), C(offline), C(drained),
    C(pending), C(revoked)), C(streamswarm_status) (C(online) or C(offline)), C(streamswarm_last_seen) (ISO 8601, UTC; null when it
    never was), C(streamswarm_addresses) (what the host tells of itself; the first is also C(streamswarm_address) when
    it is the only one), and C(streamswarm_facts).
  - What workers tell is data, which Ansible never takes for a template; C(ansible-inventory --list) marks it as
    C(__ansible_unsafe). Addresses and versions that are none are left out, and texts have no control characters.
  - Nothing that a worker tells of itself says where Ansible is to log in - a host in other hands could name the address
    of another one. Keep C(ansible_host) in an inventory of your own.
options:
  plugin:
    description: Says that the file is for this plug-in.
    required: true
    choices: [streamswarm]
  url:
    description: Address of the dashboard, C(https://monitoring.example.org).
    type: str
    required: true
    env:
      - name: STREAMSWARM_URL
  token:
    description:
      - API token; the role C(viewer) suffices. Encrypt it with vault when it stands in a file.
      - It goes to the named controller only, never along a redirect, and into no output.
    type: str
    env:
      - name: STREAMSWARM_TOKEN
  token_file:
    description: File that holds the API token, where O(token) is not given.
    type: str
    env:
      - name: STREAMSWARM_TOKEN_FILE
  ca_file:
    description:
      - Certificates, in PEM, by which the dashboard's certificate is verified; those of the system unless given.
        There is no way to leave that out.
    type: path
    env:
      - name: STREAMSWARM_CA_FILE
  timeout:
    description: Seconds to wait for an answer.
    type: int
    default: 30
extends_documentation_fragment:
  - constructed
"""

EXAMPLES = r"""
# streamswarm.yml, with STREAMSWARM_URL and STREAMSWARM_TOKEN in the environment
plugin: streamswarm

# Group by architecture, and by whether the worker is heard of
plugin: streamswarm
url: https://monitoring.example.org
token_file: /etc/streamswarm/token
keyed_groups:
  - key: streamswarm_facts.architecture
    prefix: architecture
groups:
  silent: streamswarm_state == 'offline'
"""

PAGE = 500
#: Bytes of one answer.
LONGEST_ANSWER = 64 << 20
LONGEST_TOKEN = 200
#: Seconds to wait at the most when the controller says that there were too many calls.
LONGEST_WAIT = 65
HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?", re.ASCII)
VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+!_-]{0,99}", re.ASCII)
#: What the controller calls a worker's state → the group that it is in.
STATES = {
    "connected": "online",
    "offline": "offline",
    "drained": "drained",
    "pending": "pending",
    "revoked": "revoked",
}


class InventoryModule(BaseInventoryPlugin, Constructable):
    """Reads the workers page by page."""

    NAME = "streamswarm"

    def verify_file(self, path: str) -> bool:
        """Whether the file may be ours, by its name."""
        return super().verify_file(path) and path.endswith(("streamswarm.yml", "streamswarm.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Put every worker into the inventory."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        url = str(self.get_option("url")).rstrip("/")
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise AnsibleParserError("`url` (STREAMSWARM_URL) must begin with https:// or http://.")
        api = Api(url, self._token(), context=self._context(), timeout=self.get_option("timeout"))
        try:
            for worker in api.workers():
                self._add(worker)
        except (KeyError, TypeError, AttributeError) as error:
            raise AnsibleParserError(
                f"{url} describes a worker in a way that is not understood ({type(error).__name__}: {error}); use the "
                "same release on both sides."
            ) from error

    def _token(self) -> str:
        token = self.get_option("token") or ""
        path = self.get_option("token_file")
        if not token and path:
            try:
                with Path(path).expanduser().open(encoding="ascii") as file:
                    token = file.read(LONGEST_TOKEN)
            except (OSError, UnicodeDecodeError) as error:
                raise AnsibleParserError(
                    f"`token_file` names {path}, which cannot be read: {error}"
                ) from error
        token = str(token).strip()
        if not token:
            raise AnsibleParserError(
                "The controller's workers are shown to holders of an API token only: make one on the dashboard and set "
                "STREAMSWARM_TOKEN or STREAMSWARM_TOKEN_FILE, or `token` or `token_file` in the file."
            )
        if not token.isascii() or not token.isprintable() or " " in token:
            raise AnsibleParserError("The API token has characters that no token has; copy it again.")
        return token

    def _context(self) -> SSLContext:
        path = self.get_option("ca_file")
        try:
            return create_default_context(cafile=path or None)
        except OSError as error:
            raise AnsibleParserError(f"`ca_file` names {path}, which cannot be used: {error}") from error

    def _add(self, worker: dict[str, Any]) -> None:
        name = worker["host_name"]
        if not HOST_NAME.fullmatch(name):
            raise AnsibleParserError(
                "The controller names a host in a way that no host of an inventory can have."
            )
        self.inventory.add_host(name)
        variables = wrap_var(variables_of(worker))
        for key, value in variables.items():
            self.inventory.set_variable(name, key, value)
        # Those that it was enrolled with are Ansible's own names already; of the others we make names that fit.
        made = [self._sanitize_group_name(group) for group in groups_of(worker)]
        for group in dict.fromkeys([*worker["groups"], *made]):
            self.inventory.add_host(name, group=self.inventory.add_group(group))
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), variables, name, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, name, strict=strict)


def variables_of(worker: dict[str, Any]) -> dict[str, Any]:
    """Return the host variables of a worker as the API shows it."""
    facts = plain(worker["facts"])
    addresses = facts["addresses"] = [*literals(worker["facts"].get("addresses"))]
    variables = {
        "streamswarm_worker_id": worker["id"],
        "streamswarm_worker_name": worker["name"],
        "streamswarm_site": worker["site"],
        "streamswarm_labels": dict(worker["labels"]),
        "streamswarm_groups": list(worker["groups"]),
        "streamswarm_version": version_of(worker),
        "streamswarm_state": worker["state"],
        "streamswarm_status": "online" if worker["state"] == "connected" else "offline",
        "streamswarm_last_seen": worker["last_seen_at"],
        "streamswarm_addresses": addresses,
        "streamswarm_facts": facts,
    }
    # Which of several addresses others reach is not known here.
    return variables | ({"streamswarm_address": addresses[0]} if len(addresses) == 1 else {})


def version_of(worker: dict[str, Any]) -> str:
    """Return the version that a worker tells; nothing where it is none."""
    version = worker["version"]
    return version if VERSION.fullmatch(version) else ""


def literals(values: Any) -> Iterator[str]:
    """Yield those of a worker's addresses that are IP addresses. A zone, which may be any text, is no part of one."""
    for value in values if isinstance(values, list) else []:
        try:
            if "%" not in str(value):
                yield str(ipaddress.ip_address(str(value)))
        except ValueError:
            continue


def plain(value: Any) -> Any:
    """Return what a worker tells without control characters in it: it goes to terminals."""
    if isinstance(value, str):
        return "".join(sign if sign.isprintable() else "�" for sign in value)
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, dict):
        return {plain(str(name)): plain(inner) for name, inner in value.items()}
    return value


def groups_of(worker: dict[str, Any]) -> Iterator[str]:
    """Yield the groups made of what the controller knows of a worker."""
    yield STATES.get(worker["state"], worker["state"])
    if worker["site"]:
        yield f"site_{worker['site']}"
    if version := version_of(worker):
        yield f"version_{version}"
    for label, value in worker["labels"].items():
        yield f"label_{label}_{value}"


class Api:
    """The one call of the REST API that is needed."""

    def __init__(self, url: str, token: str, *, context: SSLContext, timeout: float) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self._timeout = timeout
        self._opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), Stay())

    def workers(self) -> Iterator[dict[str, Any]]:
        """Yield every worker, page by page; raises AnsibleError saying what to do."""
        query: dict[str, Any] = {"limit": PAGE}
        while True:
            page = self._get(f"{self._url}/api/v1/workers?{urllib.parse.urlencode(query)}")
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            query["cursor"] = page["next_cursor"]

    def _get(self, address: str) -> dict[str, Any]:
        request = urllib.request.Request(address, headers=self._headers)  # noqa: S310  the scheme was checked
        try:
            try:
                answer = self._read(request)
            except urllib.error.HTTPError as error:
                if error.code != 429:
                    raise
                time.sleep(seconds_to_wait(error))
                answer = self._read(request)
        except urllib.error.HTTPError as error:
            raise AnsibleError(f"{self._url} does not show its workers: {problem(error)}") from error
        except ValueError as error:
            raise AnsibleError(
                f"{self._url} answered with something that is not JSON; set `url` to the address of the dashboard."
            ) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise AnsibleError(f"{self._url} could not be asked for its workers: {reason}") from error
        if (
            not isinstance(answer, dict)
            or not isinstance(answer.get("items"), list)
            or "next_cursor" not in answer
        ):
            raise AnsibleError(
                f"{self._url} is no StreamSwarm API; set `url` to the address of the dashboard."
            )
        return answer

    def _read(self, request: urllib.request.Request) -> Any:
        with self._opener.open(request, timeout=self._timeout) as response:
            return json.loads(response.read(LONGEST_ANSWER))


class Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirects: the token goes to the named controller only."""

    def redirect_request(self, *_: Any) -> None:
        """Return no further request."""
        return


def seconds_to_wait(error: urllib.error.HTTPError) -> float:
    """Return how long the controller asks to wait, within reason."""
    try:
        return min(max(0.0, float(error.headers.get("Retry-After", "1"))), LONGEST_WAIT)
    except ValueError:
        return 1.0


def problem(error: urllib.error.HTTPError) -> str:
    """Return what a refusal means and what to do about it, in the server's own words where it has some."""
    if error.code == 401:
        return "it does not accept the token, which may be revoked or expired; make another on the dashboard."
    if 300 <= error.code < 400:
        return f"it sends callers on to {error.headers.get('Location', 'another address')}; set `url` to that if it is yours."
    try:
        details = json.loads(error.read(LONGEST_ANSWER))
        return f"{error.code} {details.get('detail') or details.get('title') or error.reason}"
    except (OSError, ValueError, AttributeError):
        return f"{error.code} {error.reason}; set `url` to the address of the dashboard."
