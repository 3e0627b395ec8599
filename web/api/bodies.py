"""Schemas of what calls are sent: fields with their limits, as the commands check them."""

from __future__ import annotations

from typing import Any

from controller.checking import MAX_TAGS
from controller.planning.schedule_schema import SCHEDULE, WINDOW
from controller.store import operation_words
from controller.store.commands import passwords
from controller.store.commands.definitions import MAX_DESTINATIONS, MAX_WORKERS
from controller.store.commands.operation_telling import LARGEST_FIGURE
from controller.store.operation_notes import ENDS, MOST_FIGURES, OUTCOMES, TASK_STATES
from controller.store.queries.users import NUMBER_FORMS, ROLES
from streamswarm import contract
from web.api.describing import ID, LINE, LINES, NAMED, UUID, said
from web.api.schemas import Named, Schema, kind_specs

_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 100, "pattern": NAMED}
_TEXT: Schema = {"type": ["string", "null"], "maxLength": 2000, "pattern": LINES}
_WORD_PATTERN = "[A-Za-z0-9]([A-Za-z0-9_.:/-]{0,61}[A-Za-z0-9])?"
_WORD: Schema = {"type": "string", "pattern": f"^{_WORD_PATTERN}$"}
_WORD_OR_NONE: Schema = {"type": ["string", "null"], "pattern": f"^({_WORD_PATTERN})?$"}
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
            {
                "type": "string",
                "minLength": 1,
                "maxLength": 2048,
                "examples": ["192.0.2.1", "example.org:443", "https://example.org/"],
            },
            "Host, `host:port`, `[v6]:port` or URL.",
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
        Named("all_workers", fields({"all": {"const": True}}, "all")),
        Named(
            "some_workers",
            {
                **fields(
                    {
                        "workers": {"type": ["array", "null"], "items": UUID, "maxItems": MAX_WORKERS},
                        "sites": {**_WORDS, "maxItems": 1000},
                        "groups": {**_WORDS, "maxItems": 1000},
                        "labels": _LABELS,
                    }
                ),
                "minProperties": 1,
            },
        ),
    ],
}

TEST = Named(
    "new_test",
    fields(
        {
            "name": _NAME,
            "description": _TEXT,
            "kind": {"enum": list(contract.kinds())},
            "spec": said(
                {"anyOf": [kind_specs(), {"type": "null"}]},
                "Parameters of the kind; what is left out has its default.",
            ),
            "destinations": said(
                {"type": ["array", "null"], "items": ID, "maxItems": MAX_DESTINATIONS, "uniqueItems": True},
                "Ids; at least one, but none for kinds whose target is `none`.",
            ),
            "selection": SELECTION,
            "tags": _WORDS,
            **SCHEDULE,
            "interval_s": {
                "description": f"{SCHEDULE['interval_s']['description']} A number as text is taken too.",
                "anyOf": [
                    {name: SCHEDULE["interval_s"][name] for name in ("type", "minimum", "maximum")},
                    {"type": "string", "pattern": r"^[\s0-9._eE+-]*$"},
                ],
            },
            "windows": {**SCHEDULE["windows"], "items": Named("window", WINDOW)},
            "paused": {"type": "boolean"},
        },
        "name",
        "kind",
    ),
)
TEST["examples"] = [{"name": "The office", "kind": "ping", "destinations": [1], "interval_s": 60}]

#: Text that is shown as it is, and values that a policy has.
_SHOWN = r"^[^\x00-\x1f\x7f-\xa0\xad]*$"
_PLAIN: list[Schema] = [
    {"type": ["boolean", "null"]},
    {"type": "integer", "minimum": 1 - 2**63, "maximum": 2**63 - 1},
    {"type": "string", "maxLength": 300, "pattern": _SHOWN},
]
WORKER = fields(
    {
        "name": _NAME,
        "site": _WORD_OR_NONE,
        "labels": _LABELS,
        "groups": _WORDS,
        "intended_policy": said(
            {
                "type": ["object", "null"],
                "propertyNames": {"maxLength": 300, "pattern": _SHOWN},
                "additionalProperties": {
                    "anyOf": [*_PLAIN, {"type": "array", "items": {"anyOf": _PLAIN}, "maxItems": 1000}]
                },
                "maxProperties": 50,
            },
            "What the inventory wants its policy to be, as provisioning tells it.",
        ),
    }
)

ENROLMENT = fields(
    {
        "host": said(
            {"type": "string", "pattern": "^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$"},
            "Name in the inventory.",
        ),
        "site": _WORD_OR_NONE,
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
        "tests": {"type": "array", "items": ID, "minItems": 1, "maxItems": 20, "uniqueItems": True},
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
_LIMIT: Schema = {"type": ["string", "null"], "maxLength": operation_words.LONGEST_LIMIT}
OPERATION = fields(
    {
        "kind": {"enum": list(operation_words.ASKED)},
        "limit": said(
            {**_LIMIT, "pattern": r"^([A-Za-z0-9_.*!&][A-Za-z0-9_.*!&:,\[\]-]*)?$"},
            "Host pattern of Ansible's that narrows it down; without one it is about all workers of the inventory. "
            "`restart`, `drain` and `resume` want one.",
        ),
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
                        "release": {"type": ["string", "null"], "pattern": "^([0-9][0-9A-Za-z.+]{0,99})?$"},
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
        "limit": said(
            {**_LIMIT, "pattern": LINE}, "What it was narrowed down to, as the history is to show it."
        ),
        "check": {"type": "boolean"},
        "forks": _FORKS,
        "hosts": {
            "type": ["array", "null"],
            "items": {"type": "string", "minLength": 1, "maxLength": 253, "pattern": _SHOWN},
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
_SAID: Schema = {"type": ["string", "null"], "maxLength": 3000, "pattern": LINES}
_LINE: Schema = {"type": ["string", "null"], "maxLength": 3000, "pattern": LINE}
_HOST: Schema = {"type": "string", "minLength": 1, "maxLength": 253, "pattern": NAMED}
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
                        "task": _LINE,
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
                        "where": _LINE,
                        "quantity": _HOST,
                        "unit": {**_LINE, "maxLength": 253},
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

_PASSWORD = said(
    {"type": "string", "minLength": passwords.SHORTEST, "maxLength": passwords.LONGEST},
    "With at least four different characters, and more than the name of the user.",
)
_EMAIL_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = rf"^([A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{_EMAIL_LABEL}(\.{_EMAIL_LABEL})+)?$"
USER = fields(
    {
        "name": {"type": "string", "maxLength": 64, "pattern": r"^[^\W_]([\w.@+-]*\w)?$"},
        "email": {"type": ["string", "null"], "maxLength": 254, "pattern": _EMAIL},
        "role": _ROLE,
        "active": {"type": "boolean"},
        "password": _PASSWORD,
    },
    "name",
    "password",
)
USER_CHANGE = fields({name: USER["properties"][name] for name in ("name", "email", "role", "active")})
PASSWORD = fields({"password": _PASSWORD}, "password")
OWN_PASSWORD = fields(
    {"old_password": {"type": "string"}, "new_password": _PASSWORD}, "old_password", "new_password"
)
LINK = fields({"minutes": {"type": ["number", "null"], "minimum": 1, "maximum": 24 * 60}})
NOTHING = Named("nothing", fields({}))


def names(schema: Schema) -> tuple[str, ...]:
    """Return the fields that a body may have."""
    properties: dict[str, Any] = schema["properties"]
    return tuple(properties)
