-- Operations on the fleet: runs of playbooks, the hosts that they work on, and what happened.

CREATE TABLE operations (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    kind TEXT NOT NULL,
    parameters JSONB NOT NULL,
    check_only BOOLEAN DEFAULT false NOT NULL,
    by_keeper BOOLEAN DEFAULT true NOT NULL,
    state TEXT DEFAULT 'queued' NOT NULL,
    version INTEGER DEFAULT '1' NOT NULL,
    made_by TEXT DEFAULT '' NOT NULL,
    cancelled_by TEXT DEFAULT '' NOT NULL,
    error TEXT DEFAULT '' NOT NULL,
    mend TEXT DEFAULT '' NOT NULL,
    event_count INTEGER DEFAULT '0' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE,
    beat_at TIMESTAMP WITH TIME ZONE,
    finished_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_operations PRIMARY KEY (id),
    CONSTRAINT ck_operations_state CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'interrupted'))
);

CREATE INDEX ix_operations_created_at ON operations (created_at);

CREATE INDEX ix_operations_open ON operations (id) WHERE state IN ('queued', 'running');

CREATE TABLE operation_hosts (
    operation_id BIGINT NOT NULL,
    host TEXT NOT NULL,
    state TEXT DEFAULT 'waiting' NOT NULL,
    task TEXT DEFAULT '' NOT NULL,
    changed INTEGER DEFAULT '0' NOT NULL,
    message TEXT DEFAULT '' NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_operation_hosts PRIMARY KEY (operation_id, host),
    CONSTRAINT ck_operation_hosts_state CHECK (state IN ('waiting', 'working', 'ok', 'failed', 'unreachable')),
    CONSTRAINT fk_operation_hosts_operation_id FOREIGN KEY (operation_id) REFERENCES operations (id) ON DELETE CASCADE
);

CREATE INDEX ix_operation_hosts_host ON operation_hosts (host);

CREATE TABLE operation_events (
    operation_id BIGINT NOT NULL,
    sequence INTEGER NOT NULL,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    host TEXT NOT NULL,
    task TEXT NOT NULL,
    state TEXT NOT NULL,
    message TEXT DEFAULT '' NOT NULL,
    CONSTRAINT pk_operation_events PRIMARY KEY (operation_id, sequence),
    CONSTRAINT fk_operation_events_operation_id FOREIGN KEY (operation_id) REFERENCES operations (id) ON DELETE CASCADE
);
