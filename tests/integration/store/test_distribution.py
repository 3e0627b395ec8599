"""What lets results be spread over several databases one day: their tables' keys begin with the job."""

from __future__ import annotations

from sqlalchemy import Engine, text

from controller.store.results import all_table_names

_KEYS = text("""
SELECT c.relname, a.attname
FROM pg_class c
JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
WHERE c.relnamespace = 'public'::regnamespace AND NOT c.relispartition
  AND EXISTS (SELECT 1 FROM pg_attribute j WHERE j.attrelid = c.oid AND j.attname = 'job_id')
  AND EXISTS (SELECT 1 FROM pg_partitioned_table p WHERE p.partrelid = c.oid)
""")


def test_the_distribution_key_is_first_in_every_primary_key(engine: Engine) -> None:
    """Every partitioned table that knows jobs: results, their children, roll-ups. Without it they could not be sharded."""
    with engine.connect() as connection:
        keys = {row[0]: row[1] for row in connection.execute(_KEYS)}
    assert set(all_table_names()) <= keys.keys()
    assert {name: column for name, column in keys.items() if column != "job_id"} == {}
