"""What a worker's Hello tells of its host, of a form in which other programs can take it.

Inventories, playbooks and terminals come to see these texts, and a worker in other hands says what it likes: addresses
are addresses, a version is a version, and no text has control characters. What is not so is left out, and told of.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import uuid
from typing import Any

from controller.gateway.lately import Lately
from streamswarm.targets import shown
from streamswarm.v1 import gateway_pb2

_log = logging.getLogger(__name__)

_MOST_BYTES = 65_536
_LONGEST_TEXT = 256
_MOST_ADDRESSES = 64
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+!_-]{0,99}")
#: A worker is told of once in a day, however often it comes.
_PAUSE_S = 86_400.0
_told: Lately[uuid.UUID] = Lately(_PAUSE_S)


def version_and_facts(worker_id: uuid.UUID, hello: gateway_pb2.Hello) -> tuple[str, dict[str, Any]]:
    """Return the version and the facts that a Hello tells, each without what is not of its form."""
    refused = []
    version = hello.worker_version
    if version and not _VERSION.fullmatch(version):
        refused.append(f"version `{shown(version)}`")
        version = ""
    facts: dict[str, Any] = {}
    if hello.facts.ByteSize() > _MOST_BYTES:
        refused.append("facts that are too long")
    else:
        for field in hello.facts.DESCRIPTOR.fields:
            value = getattr(hello.facts, field.name)
            facts[field.name] = shown(value, _LONGEST_TEXT) if isinstance(value, str) else value
        facts["addresses"] = [text for text in map(_literal, hello.facts.addresses) if text][:_MOST_ADDRESSES]
        refused += [f"address `{shown(text)}`" for text in hello.facts.addresses if not _literal(text)]
    if refused and worker_id not in _told:
        _told.add(worker_id)
        _log.warning(
            "worker %s tells what is left out, as it is of no form that such a thing has: %s%s; look at what runs on "
            "that host",
            worker_id,
            refused[0],
            f" and {len(refused) - 1} more" if len(refused) > 1 else "",
        )
    return version, facts


def _literal(text: str) -> str:
    """Return an IP address as it is written; nothing for what is none. A zone, which may be any text, is none."""
    try:
        return "" if "%" in text else str(ipaddress.ip_address(text))
    except ValueError:
        return ""
