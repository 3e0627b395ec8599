-- Schedules: cron, zones, windows, a count, a new test per run; what was due under each version of a job; how late runs
-- started; jobs whose due runs do not come. Frozen: later changes are migrations of their own.

ALTER TABLE tests
    ADD COLUMN cron TEXT DEFAULT '' NOT NULL,
    ADD COLUMN zone TEXT DEFAULT 'UTC' NOT NULL,
    ADD COLUMN windows JSONB DEFAULT '[]'::jsonb NOT NULL,
    ADD COLUMN max_runs INTEGER,
    ADD COLUMN recurrence TEXT DEFAULT 'continue' NOT NULL,
    ADD COLUMN origin_id BIGINT,
    ADD COLUMN origin_at TIMESTAMP WITH TIME ZONE,
    ADD CONSTRAINT fk_tests_origin_id FOREIGN KEY(origin_id) REFERENCES tests (id) ON DELETE RESTRICT,
    ADD CONSTRAINT ck_tests_recurrence CHECK (recurrence IN ('continue', 'new_test')),
    DROP CONSTRAINT ck_tests_interval,
    ADD CONSTRAINT ck_tests_interval CHECK (interval_s IS NULL OR (interval_s >= 0.1 AND cron = ''));

CREATE UNIQUE INDEX ix_tests_origin_id_origin_at ON tests (origin_id, origin_at);

ALTER TABLE jobs
    ADD COLUMN cron TEXT DEFAULT '' NOT NULL,
    ADD COLUMN zone TEXT DEFAULT 'UTC' NOT NULL,
    ADD COLUMN windows JSONB DEFAULT '[]'::jsonb NOT NULL;

CREATE TABLE job_versions (
    job_id BIGINT NOT NULL,
    version INTEGER NOT NULL,
    valid_from TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    valid_until TIMESTAMP WITH TIME ZONE,
    interval_us BIGINT NOT NULL,
    anchor_us BIGINT NOT NULL,
    cron TEXT DEFAULT '' NOT NULL,
    zone TEXT DEFAULT 'UTC' NOT NULL,
    windows JSONB DEFAULT '[]'::jsonb NOT NULL,
    starts_at TIMESTAMP WITH TIME ZONE,
    ends_at TIMESTAMP WITH TIME ZONE,
    paused BOOLEAN DEFAULT false NOT NULL,
    CONSTRAINT pk_job_versions PRIMARY KEY (job_id, version),
    CONSTRAINT fk_job_versions_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);

-- Of the jobs there are, only how they are scheduled now is known; a one-shot job was due once, whenever it was retired.
INSERT INTO job_versions (job_id, version, valid_from, valid_until, interval_us, anchor_us, starts_at, ends_at, paused)
SELECT id, version, created_at, CASE WHEN one_shot THEN NULL ELSE retired_at END, interval_us, anchor_us, starts_at,
       ends_at, paused
FROM jobs;

CREATE TABLE overdue_jobs (
    job_id BIGINT NOT NULL,
    due_at TIMESTAMP WITH TIME ZONE NOT NULL,
    noticed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_overdue_jobs PRIMARY KEY (job_id),
    CONSTRAINT fk_overdue_jobs_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);

CREATE TABLE marks (
    name TEXT NOT NULL,
    until TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_marks PRIMARY KEY (name)
);

ALTER TABLE result_dns ADD COLUMN start_error_us INTEGER;
ALTER TABLE result_http ADD COLUMN start_error_us INTEGER;
ALTER TABLE result_ping ADD COLUMN start_error_us INTEGER;
ALTER TABLE result_system ADD COLUMN start_error_us INTEGER;
ALTER TABLE result_tcp ADD COLUMN start_error_us INTEGER;
