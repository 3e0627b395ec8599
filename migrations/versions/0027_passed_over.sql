-- Stretches of single jobs whose roll-up takes longer than a statement may.

CREATE TABLE passed_over (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    kind TEXT NOT NULL,
    layer TEXT NOT NULL,
    job_id BIGINT NOT NULL,
    start TIMESTAMP WITH TIME ZONE NOT NULL,
    "end" TIMESTAMP WITH TIME ZONE NOT NULL,
    tried_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_passed_over PRIMARY KEY (id)
);
CREATE INDEX ix_passed_over_kind_job_id ON passed_over (kind, job_id);
