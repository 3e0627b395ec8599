-- Bounds: versions of jobs are found by their end, to be removed when nothing asks for them; workers are planned anew so
-- often and no more; the latest failures are found by index. Frozen: later changes are migrations of their own.

CREATE INDEX ix_job_versions_valid_until ON job_versions (valid_until);

ALTER TABLE workers ADD COLUMN replanned_at TIMESTAMP WITH TIME ZONE;

-- Partitions get this index when they are made; those of today and of the days to come are there already. Older ones need none.
DO $$
DECLARE
    name TEXT;
BEGIN
    FOR name IN
        SELECT c.relname
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent IN ('result_dns'::regclass, 'result_http'::regclass, 'result_ping'::regclass,
                              'result_system'::regclass, 'result_tcp'::regclass)
            AND to_date(right(c.relname, 10), 'YYYY_MM_DD') >= (now() AT TIME ZONE 'UTC')::date
    LOOP
        EXECUTE format('CREATE INDEX %I ON %I (scheduled_at, job_id) WHERE status <> 1', name || '_bad', name);
    END LOOP;
END
$$;
