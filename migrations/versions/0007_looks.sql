-- Looks whose cost follows what is due: indexes past the many tests that ran once, workers that do not get rid of their
-- spool. Frozen: later changes are migrations of their own.

CREATE INDEX ix_tests_unplanned ON tests (id) WHERE planned_version <> version;
CREATE INDEX ix_tests_repeating ON tests (id) WHERE deleted_at IS NULL AND (interval_s IS NOT NULL OR cron <> '');
CREATE INDEX ix_tests_once ON tests (coalesce(starts_at, created_at))
    WHERE deleted_at IS NULL AND interval_s IS NULL AND cron = '';

CREATE TABLE backlogs (
    worker_id UUID NOT NULL,
    least BIGINT NOT NULL,
    since TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_backlogs PRIMARY KEY (worker_id),
    CONSTRAINT fk_backlogs_worker_id FOREIGN KEY(worker_id) REFERENCES workers (id) ON DELETE CASCADE
);
