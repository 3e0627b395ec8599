"""Prepares a load whose preparation fails as a whole: portion by portion, and where that fails too, row by row.

A result that our own code trips over would otherwise hold up its lane, and the results of all workers on it, for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from controller.gateway.database import BlockingConnection, is_in_vain
from controller.gateway.loads import Load, Portion, Single, joined
from controller.gateway.preparing import Preparation

_log = logging.getLogger(__name__)


def load_apart(preparation: Preparation, connection: BlockingConnection, portions: Sequence[Portion]) -> Load:
    """Prepare what can be prepared; the rest bears the reason why not, to be set aside."""
    loads: list[Load] = []
    for portion in portions:
        try:
            loads.append(preparation.part(connection, [portion]))
        except Exception as error:
            if not is_in_vain(error):
                raise
            loads += _rows(preparation, connection, portion)
    return joined(portions, loads)


def _rows(preparation: Preparation, connection: BlockingConnection, portion: Portion) -> list[Load]:
    loads: list[Load] = []
    faults = 0
    for seq, text in zip(portion.seqs, portion.wire, strict=True):
        row = replace(portion, seqs=[seq], wire=[text])
        try:
            loads.append(preparation.part(connection, [row]))
        except Exception as error:
            if not is_in_vain(error):
                raise
            if not faults:
                _log.exception(
                    "result %s of worker %s cannot be prepared and is set aside", seq, portion.worker_id
                )
            faults += 1
            fault = f"it cannot be prepared: {error!r}"
            loads.append(Load(portions=[row], blocks=[], singles={0: Single(packed=None, fault=fault)}))
    if faults > 1:
        _log.error("%s results of worker %s cannot be prepared and are set aside", faults, portion.worker_id)
    return loads
