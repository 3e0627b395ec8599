# StreamSwarm's enrolment lookup. It imports Ansible and is therefore under Ansible's licence:
# GNU General Public License v3.0 or later (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gets what one host needs to enrol, including a fresh one-time token, from the controller."""

from __future__ import annotations

import json
import os
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

DOCUMENTATION = r"""
name: streamswarm_enrolment
author: StreamSwarm
short_description: Get a one-time enrolment token and the controller's addresses
description:
  - Returns a dictionary with C(token), C(ca_pem), C(enrolment), C(gateways) and C(trust_domain).
  - Each look-up makes a new token, unless C(token=false); it works once, for the named host only, and for some minutes.
  - Secrets travel in the request and the answer only. Use it in tasks with C(no_log=true).
options:
  _terms:
    description: Name of the inventory host that will enrol.
    required: true
  token:
    description: Whether the host needs a token. Without it only the addresses and the CA are asked for; nothing is made.
    type: bool
    default: true
  refusal:
    description:
      - Whether to return a dictionary with C(refused), the reason, where it cannot be had, instead of failing. A task with
        C(no_log=true) that fails does not say why; the reason holds no secret.
    type: bool
    default: false
  site:
    description: Where the host stands; shown in the dashboard.
    type: str
    default: ""
  labels:
    description: Labels of the host.
    type: dict
    default: {}
  groups:
    description: Groups of the inventory that the host is in.
    type: list
    elements: str
    default: []
notes:
  - C(STREAMSWARM_ENROLMENT_SOCKET) names the socket of a running C(streamswarm fleet provision), which sets it and
    knows the inventory itself.
  - Otherwise C(STREAMSWARM_URL) is the dashboard's address and C(STREAMSWARM_TOKEN) an API token. C(STREAMSWARM_CA_FILE)
    names certificates, in PEM, by which the dashboard's is verified; those of the system unless it is set.
"""

EXAMPLES = r"""
- name: Deliver the token
  ansible.builtin.copy:
    content: "{{ lookup('streamswarm_enrolment', inventory_hostname).token }}"
    dest: /var/lib/streamswarm-worker/token
    mode: "0600"
  no_log: true
"""

RETURN = r"""
_raw:
  description: One dictionary for each host named.
  type: list
  elements: dict
"""

TIMEOUT = 30
LONGEST_ANSWER = 1 << 20
KEYS = {"ca_pem": str, "enrolment": str, "gateways": list}


class LookupModule(LookupBase):
    """Asks the controller for each host named."""

    def run(self, terms: list[str], variables: Any = None, **kwargs: Any) -> list[dict[str, Any]]:
        self.set_options(var_options=variables, direct=kwargs)
        about = {
            "site": self.get_option("site"),
            "labels": dict(self.get_option("labels")),
            "groups": list(self.get_option("groups")),
        }
        with_token = self.get_option("token")
        try:
            return [grant({"host": str(term), **about}, with_token=with_token) for term in terms]
        except AnsibleError as error:
            if not self.get_option("refusal"):
                raise
            return [{"refused": error.message}] * len(terms)


def grant(request: dict[str, Any], *, with_token: bool = True) -> dict[str, Any]:
    """Return what a host needs to enrol, or without a token how it reaches the controller.

    Raises AnsibleError saying what to do when it cannot be had.
    """
    desk = os.environ.get("STREAMSWARM_ENROLMENT_SOCKET")
    answer = ask_desk(desk, request["host"], with_token) if desk else ask_controller(request, with_token)
    needed = {**KEYS, **({"token": str} if with_token else {})}
    if not isinstance(answer, dict) or any(
        not isinstance(answer.get(key), kind) for key, kind in needed.items()
    ):
        raise AnsibleError(
            "The controller's answer about enrolment is incomplete; update this release or the controller."
        )
    return answer


def ask_desk(path: str, host: str, with_token: bool) -> Any:
    """Ask the process that runs this playbook; the socket lies in its private folder."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT)
            connection.connect(path)
            connection.sendall(json.dumps({"host": host, "token": with_token}).encode() + b"\n")
            with connection.makefile("rb") as stream:
                answer = json.loads(stream.readline(LONGEST_ANSWER))
    except (OSError, ValueError) as error:
        raise AnsibleError(f"streamswarm did not answer about the enrolment of {host}: {error}") from error
    if isinstance(answer, dict) and "error" in answer:
        raise AnsibleError(
            f"{'No enrolment token' if with_token else 'No addresses'} for {host}: {answer['error']}"
        )
    return answer


def ask_controller(about: dict[str, Any], with_token: bool) -> Any:
    """Ask the controller's REST API."""
    host = about["host"]
    url = os.environ.get("STREAMSWARM_URL", "").rstrip("/")
    token = os.environ.get("STREAMSWARM_TOKEN", "")
    if not url or not token:
        raise AnsibleError(
            "Enrolment tokens and addresses come from the controller: set STREAMSWARM_URL to the dashboard's address and "
            "STREAMSWARM_TOKEN to an API token, or set streamswarm_worker_gateways, streamswarm_worker_enrolment, "
            "streamswarm_worker_ca_pem and streamswarm_worker_token."
        )
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise AnsibleError("STREAMSWARM_URL must begin with https:// or http://.")
    request = urllib.request.Request(  # noqa: S310  the scheme was checked above
        f"{url}/api/v1/{'enrolment-tokens' if with_token else 'enrolment'}",
        data=json.dumps(about).encode() if with_token else None,
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        method="POST" if with_token else "GET",
    )
    try:
        with opener().open(request, timeout=TIMEOUT) as response:
            return json.loads(response.read(LONGEST_ANSWER))
    except urllib.error.HTTPError as error:
        what = "an enrolment token" if with_token else "its addresses"
        raise AnsibleError(f"{url} refused {what} for {host}: {problem(error)}") from error
    except (OSError, ValueError) as error:
        raise AnsibleError(f"{url} could not be asked about enrolment: {error}") from error


def opener() -> urllib.request.OpenerDirector:
    """Return an opener that follows no redirects: the API token goes to the named controller only."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    path = os.environ.get("STREAMSWARM_CA_FILE")
    try:
        context = ssl.create_default_context(cafile=path or None)
    except OSError as error:
        raise AnsibleError(f"STREAMSWARM_CA_FILE names {path}, which cannot be used: {error}") from error
    return urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), Stay)


def problem(error: urllib.error.HTTPError) -> str:
    """Return the server's own words (problem details), or the status."""
    try:
        details = json.loads(error.read(LONGEST_ANSWER))
        return f"{error.code} {details.get('detail') or details.get('title') or error.reason}"
    except (OSError, ValueError, AttributeError):
        return f"{error.code} {error.reason}"
