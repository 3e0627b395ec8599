-- What diagnosis has learnt of each job. Frozen: later changes are migrations of their own.

CREATE TABLE diagnosis_states (
    job_id BIGINT NOT NULL,
    version INTEGER DEFAULT '0' NOT NULL,
    fingerprint TEXT DEFAULT '' NOT NULL,
    position TIMESTAMP WITH TIME ZONE,
    looked_at TIMESTAMP WITH TIME ZONE,
    needed INTEGER DEFAULT '0' NOT NULL,
    model JSONB DEFAULT '{}'::jsonb NOT NULL,
    reading JSONB DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT pk_diagnosis_states PRIMARY KEY (job_id),
    CONSTRAINT fk_diagnosis_states_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);

CREATE INDEX ix_diagnosis_states_looked_at ON diagnosis_states (looked_at);

CREATE TABLE diagnosis_seasons (
    job_id BIGINT NOT NULL,
    slot SMALLINT NOT NULL,
    weeks JSONB DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT pk_diagnosis_seasons PRIMARY KEY (job_id, slot),
    CONSTRAINT fk_diagnosis_seasons_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
