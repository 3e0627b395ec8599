-- Settings that are changed while everything runs.

CREATE TABLE run_time_settings (
    name TEXT NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    changed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    changed_by TEXT NOT NULL,
    CONSTRAINT pk_run_time_settings PRIMARY KEY (name)
);
