"""By what of a worker its jobs are planned: the kinds and the contract that it announces, the later the more often they change.

Each change ends versions of the worker's jobs and begins others, which are kept for as long as their results. So a first change
counts at once, and each further one of the same day only when twice as much time has passed as before the last, an hour
at the most. Whatever a worker announces, no job has more than some thirty versions a day by it.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection

from sqlalchemy import Engine, text

#: What a worker that has announced anything can do now, as `workers.ability` holds it.
_NOW = (
    "jsonb_build_object('contract', contract_version, 'kinds', "
    "jsonb_path_query_array(kinds, '$.keyvalue() ? (@.value.available == true).key'))"
)
#: In the order of their ids, as gateways lock workers.
_TAKE_OVER = f"""
WITH changed AS (
    SELECT id, {_NOW} AS ability FROM workers
    WHERE deleted_at IS NULL AND kinds <> '{{}}' AND ability IS DISTINCT FROM {_NOW}
      -- One of a time to come was made while the clock had leapt.
      AND (ability_changes = 0 OR ability_at > now() OR ability_at < now() - least(
           interval '1 hour', interval '1 minute' * power(2, least(ability_changes, 7) - 1)))
      AND (CAST(:workers AS uuid[]) IS NULL OR id = ANY(CAST(:workers AS uuid[])))
    ORDER BY id FOR NO KEY UPDATE
)
UPDATE workers w SET
    ability = c.ability,
    ability_at = now(),
    ability_changes = CASE WHEN w.ability IS NULL THEN 0
                           WHEN w.ability_at < now() - interval '1 day' THEN 1
                           ELSE w.ability_changes + 1 END
FROM changed c WHERE w.id = c.id
"""  # noqa: S608  fixed text


def take_over(engine: Engine, *, workers: Collection[uuid.UUID] | None = None) -> int:
    """Have jobs be planned by what workers announce now, of all or of some, where it is time; return of how many."""
    ids = None if workers is None else [str(worker) for worker in workers]
    with engine.begin() as connection:
        return connection.execute(text(_TAKE_OVER), {"workers": ids}).rowcount
