-- Reports: what was asked for, how far it is, and the file.

CREATE TABLE reports (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    state TEXT DEFAULT 'waiting' NOT NULL,
    title TEXT NOT NULL,
    request JSONB NOT NULL,
    made_by TEXT DEFAULT '' NOT NULL,
    attempt INTEGER DEFAULT '0' NOT NULL,
    progress TEXT DEFAULT '' NOT NULL,
    error TEXT DEFAULT '' NOT NULL,
    mend TEXT DEFAULT '' NOT NULL,
    file BYTEA,
    size BIGINT,
    sha256 TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_reports PRIMARY KEY (id),
    CONSTRAINT ck_reports_state CHECK (state IN ('waiting', 'working', 'ready', 'failed'))
);

CREATE INDEX ix_reports_created_at ON reports (created_at);
