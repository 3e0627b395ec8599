"""Schemas of what calls are sent: fields with their limits, as the commands check them."""

from __future__ import annotations

from typing import Any

from controller.checking import MAX_TAGS
from controller.planning.schedule_schema import SCHEDULE
from controller.store import operation_words
from controller.store.commands.operation_telling import LARGEST_FIGURE
from controller.store.operation_notes import ENDS, MOST_FIGURES, OUTCOMES, TASK_STATES
from controller.store.queries.users import NUMBER_FORMS, ROLES
from streamswarm import contract
from web.api.describing import ID, LINES, NAMED, UUID, Schema, said
from web.api.schemas import kind_specs

_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 100, "pattern": NAMED}
_TEXT: Schema = {"type": ["string", "null"], "maxLength": 2000, "pattern": LINES}
_WORD: Schema = {"type": "string", "pattern": "^[A-Za-z0-9]([A-Za-z0-9_.:/-]{0,61}[A-Za-z0-9])?$"}
_WORDS: Schema = {"type": ["array", "null"], "items": _WORD, "maxItems": MAX_TAGS}
_LABELS: Schema = {"type": ["object", "null"], "additionalProperties": _WORD, "maxProperties": MAX_TAGS}
_ROLE: Schema = {"enum": list(ROLES)}
_LATER: Schema = {"type": ["string", "null"], "format": "date-time"}
_VERSION = said(
    {"type": "integer"}, "The version that the change is based on; the header If-Match does as well."
)


def fields(properties: dict[str, Schema], *required: str) -> Schema:
    """Return the schema of a body with these fields and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def change(made: Schema, *, versioned: bool = False) -> Schema:
    """Return the schema of a change: any of the fields with which the object is made."""
    return fields({**made["properties"], **({"version": _VERSION} if versioned else {})})


DESTINATION = fields(
    {
        "name": _NAME,
        "address": said(
            {"type": "string", "minLength": 1, "maxLength": 2048}, "Host, `host:port`, `[v6]:port` or URL."
        ),
        "description": _TEXT,
        "tags": _WORDS,
    },
    "name",
    "address",
)

SELECTION: Schema = {
    "description": "Which workers: all, or those that any of the others names.",
    "anyOf": [
        fields({"all": {"const": True}}, "all"),
        {
            **fields(
                {
                    "workers": {"type": ["array", "null"], "items": UUID, "maxItems": 10_000},
                    "sites": {**_WORDS, "maxItems": 1000},
                    "groups": {**_WORDS, "maxItems": 1000},
                    "labels": _LABELS,
                }
            ),
            "minProperties": 1,
        },
    ],
}

TEST = fields(
    {
        "name": _NAME,
        "description": _TEXT,
        "kind": {"enum": list(contract.kinds())},
        "spec": said(
            {"anyOf": [kind_specs(), {"type": "null"}]},
            "Parameters of the kind; what is left out has its default.",
        ),
        "destinations": said(
            {"type": ["array", "null"], "items": ID, "maxItems": 100},
            "Ids; at least one, but none for kinds whose target is `none`.",
        ),
        "selection": SELECTION,
        "tags": _WORDS,
        **SCHEDULE,
        "paused": {"type": "boolean"},
    },
    "name",
    "kind",
)

WORKER = fields(
    {
        "name": _NAME,
        "site": {"type": ["string", "null"], "maxLength": 63},
        "labels": _LABELS,
        "groups": _WORDS,
        "intended_policy": said(
            {"type": ["object", "null"]},
            "What the inventory wants its policy to be, as provisioning tells it.",
        ),
    }
)

ENROLMENT = fields(
    {
        "host": said({"type": "string", "minLength": 1, "maxLength": 253}, "Name in the inventory."),
        "site": {"type": ["string", "null"], "maxLength": 63},
        "labels": _LABELS,
        "groups": _WORDS,
    },
    "host",
)

PREFERENCES = fields(
    {
        "zone": said({"type": "string", "maxLength": 64}, "IANA name, or empty for the browser's."),
        "number_form": said(
            {"enum": list(NUMBER_FORMS)}, "What sets thousands apart, and what stands before decimals."
        ),
    }
)

TOKEN = fields({"name": _NAME, "description": _TEXT, "scope": _ROLE, "expires_at": _LATER}, "name")
TOKEN_CHANGE = fields({"name": _NAME, "description": _TEXT, "expires_at": _LATER})

REPORT = fields(
    {
        "tests": {"type": "array", "items": ID, "minItems": 1, "maxItems": 20},
        "last": said(
            {"type": ["string", "null"], "pattern": "^[1-9][0-9]{0,3}[hd]$"},
            "Hours or days up to now: `24h`, `7d`.",
        ),
        "from": _LATER,
        "to": _LATER,
    },
    "tests",
)

_FORKS = said(
    {"type": ["number", "null"], "minimum": 1, "maximum": operation_words.MOST_FORKS},
    "Hosts at the same time; 10 unless sent.",
)
_LIMIT = said(
    {"type": ["string", "null"], "maxLength": operation_words.LONGEST_LIMIT},
    "Host pattern of Ansible's that narrows it down; without one it is about all workers of the inventory.",
)
OPERATION = fields(
    {
        "kind": {"enum": list(operation_words.ASKED)},
        "limit": _LIMIT,
        "check": said({"type": "boolean"}, "Only say what would change."),
        "forks": _FORKS,
        "options": said(
            {
                **fields(
                    {
                        "on_controller": {"enum": list(operation_words.RETIREMENTS)},
                        "keep_data": {"type": "boolean"},
                        "discard": {"type": "boolean"},
                        "wait": {"type": ["number", "null"], "minimum": 0, "maximum": 86_400},
                        "release": {"type": ["string", "null"], "maxLength": 100},
                        "canary": {
                            "type": ["number", "null"],
                            "minimum": 0,
                            "maximum": operation_words.MOST_IN_STEP,
                        },
                        "batch": {
                            "type": ["number", "null"],
                            "minimum": 1,
                            "maximum": operation_words.MOST_IN_STEP,
                        },
                        "patience": {"type": ["number", "null"], "minimum": 0, "maximum": 86_400},
                        "accept_inconclusive": {"type": "boolean"},
                        "force": {"type": "boolean"},
                        "one_host": said(
                            {"type": "boolean"},
                            "Of `restart`, `drain` and `resume`: `limit` is the name of one host and taken for nothing else.",
                        ),
                    }
                ),
                "type": ["object", "null"],
            },
            "Of `remove`: what becomes of the worker here, whether its data stay on the host, whether results that cannot "
            "be delivered may be lost, and the seconds to deliver them in. Of `upgrade`: the version of a bundle that lies "
            "ready (the controller's own release unless sent), the hosts that go first, those of each further step, the "
            "seconds in which a step's hosts gather runs to be compared, and whether to go on where there is too little. Of "
            "`drain`: the seconds to deliver in. Of `restart`: whether to kill the worker.",
        ),
    },
    "kind",
)
OPERATION_BEGUN = fields(
    {
        "kind": {"enum": list(operation_words.KINDS)},
        "limit": _LIMIT,
        "check": {"type": "boolean"},
        "forks": _FORKS,
        "hosts": {
            "type": ["array", "null"],
            "items": {"type": "string", "minLength": 1, "maxLength": 253},
            "maxItems": 10_000,
        },
        "part_of": said(
            {**ID, "type": ["integer", "null"]},
            "Of a further step of an upgrade: the number of its first one, which the caller began too.",
        ),
    },
    "kind",
)
_OPERATION_VERSION = said(
    {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}, "As the answer to its beginning said."
)
_SAID: Schema = {"type": ["string", "null"], "maxLength": 3000}
_HOST: Schema = {"type": "string", "minLength": 1, "maxLength": 253}
_FIGURE: Schema = {"type": "number", "minimum": -LARGEST_FIGURE, "maximum": LARGEST_FIGURE}
OPERATION_EVENTS = fields(
    {
        "version": _OPERATION_VERSION,
        "events": said(
            {
                "type": ["array", "null"],
                "maxItems": 500,
                "items": fields(
                    {
                        "host": _HOST,
                        "task": _SAID,
                        "state": {"enum": list(TASK_STATES)},
                        "message": _SAID,
                        "at": _LATER,
                    },
                    "host",
                    "state",
                ),
            },
            "Tasks that began or ended, in their order.",
        ),
        "hosts": said(
            {
                "type": ["array", "null"],
                "maxItems": 500,
                "items": fields(
                    {
                        "host": _HOST,
                        "state": {"enum": list(OUTCOMES)},
                        "changed": {"type": ["number", "null"], "minimum": 0, "maximum": 1_000_000},
                        "message": _SAID,
                    },
                    "host",
                    "state",
                ),
            },
            "Hosts on which nothing more happens.",
        ),
    },
    "version",
)
OPERATION_END = fields(
    {
        "version": _OPERATION_VERSION,
        "state": {"enum": list(ENDS)},
        "error": _SAID,
        "mend": _SAID,
        "figures": said(
            {
                "type": ["array", "null"],
                "maxItems": MOST_FIGURES,
                "items": fields(
                    {
                        "kind": _HOST,
                        "where": _SAID,
                        "quantity": _HOST,
                        "unit": {"type": ["string", "null"], "maxLength": 253},
                        "before": _FIGURE,
                        "after": _FIGURE,
                        "others": {"type": ["number", "null"], "minimum": 0, "maximum": 1_000_000},
                        "others_before": {**_FIGURE, "type": ["number", "null"]},
                        "others_after": {**_FIGURE, "type": ["number", "null"]},
                        "worse": {"type": "boolean"},
                    },
                    "kind",
                    "quantity",
                    "before",
                    "after",
                ),
            },
            "What was judged, in numbers; of a `judge` only.",
        ),
    },
    "version",
    "state",
)

_PASSWORD: Schema = {"type": "string", "minLength": 1, "maxLength": 1000}
USER = fields(
    {
        "name": _NAME,
        "email": {"type": ["string", "null"], "maxLength": 254},
        "role": _ROLE,
        "active": {"type": "boolean"},
        "password": _PASSWORD,
    },
    "name",
    "password",
)
USER_CHANGE = fields({name: USER["properties"][name] for name in ("name", "email", "role", "active")})
PASSWORD = fields({"password": _PASSWORD}, "password")
OWN_PASSWORD = fields({"old_password": _PASSWORD, "new_password": _PASSWORD}, "old_password", "new_password")
LINK = fields({"minutes": {"type": ["number", "null"], "minimum": 1, "maximum": 24 * 60}})
NOTHING: Schema = fields({})


def names(schema: Schema) -> tuple[str, ...]:
    """Return the fields that a body may have."""
    properties: dict[str, Any] = schema["properties"]
    return tuple(properties)
