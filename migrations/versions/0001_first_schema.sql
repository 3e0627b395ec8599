-- The schema as it first was. Frozen: later changes are migrations of their own.

CREATE TABLE users (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL,
    email TEXT,
    role TEXT DEFAULT 'viewer' NOT NULL,
    password_hash TEXT NOT NULL,
    active BOOLEAN DEFAULT true NOT NULL,
    session_generation INTEGER DEFAULT '1' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    last_login_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_users PRIMARY KEY (id),
    CONSTRAINT ck_users_role CHECK (role IN ('admin', 'operator', 'viewer'))
);

CREATE UNIQUE INDEX uq_users_name_lower ON users (lower(name));

CREATE TABLE login_attempts (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    account TEXT NOT NULL,
    address TEXT NOT NULL,
    CONSTRAINT pk_login_attempts PRIMARY KEY (id)
);

CREATE INDEX ix_login_attempts_account_at ON login_attempts (account, at);

CREATE INDEX ix_login_attempts_address_at ON login_attempts (address, at);

CREATE TABLE enrolment_tokens (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    token_hash BYTEA NOT NULL,
    host_name TEXT NOT NULL,
    site TEXT DEFAULT '' NOT NULL,
    labels JSONB DEFAULT '{}'::jsonb NOT NULL,
    groups JSONB DEFAULT '[]'::jsonb NOT NULL,
    created_by TEXT DEFAULT '' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    used_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_enrolment_tokens PRIMARY KEY (id),
    CONSTRAINT uq_enrolment_tokens_token_hash UNIQUE (token_hash)
);

CREATE TABLE processes (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    role TEXT NOT NULL,
    name TEXT NOT NULL,
    host_name TEXT NOT NULL,
    pid BIGINT NOT NULL,
    version TEXT NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    heartbeat_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    stopped_at TIMESTAMP WITH TIME ZONE,
    gauges JSONB DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT pk_processes PRIMARY KEY (id),
    CONSTRAINT ck_processes_role CHECK (role IN ('gateway', 'keeper', 'web'))
);

CREATE TABLE destinations (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL,
    address TEXT NOT NULL,
    description TEXT DEFAULT '' NOT NULL,
    tags JSONB DEFAULT '[]'::jsonb NOT NULL,
    version INTEGER DEFAULT '1' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    deleted_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_destinations PRIMARY KEY (id)
);

CREATE UNIQUE INDEX uq_destinations_name_live ON destinations (lower(name)) WHERE deleted_at IS NULL;

CREATE TABLE tests (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL,
    description TEXT DEFAULT '' NOT NULL,
    kind TEXT NOT NULL,
    spec JSONB NOT NULL,
    selection JSONB DEFAULT '{"all": true}'::jsonb NOT NULL,
    tags JSONB DEFAULT '[]'::jsonb NOT NULL,
    interval_s DOUBLE PRECISION,
    starts_at TIMESTAMP WITH TIME ZONE,
    ends_at TIMESTAMP WITH TIME ZONE,
    paused BOOLEAN DEFAULT false NOT NULL,
    version INTEGER DEFAULT '1' NOT NULL,
    planned_version INTEGER DEFAULT '0' NOT NULL,
    created_by TEXT DEFAULT '' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    deleted_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_tests PRIMARY KEY (id),
    CONSTRAINT ck_tests_interval CHECK (interval_s IS NULL OR interval_s >= 0.1)
);

CREATE UNIQUE INDEX uq_tests_name_live ON tests (lower(name)) WHERE deleted_at IS NULL;

CREATE TABLE quarantine (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    worker_id UUID NOT NULL,
    spool_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    received_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    reason TEXT NOT NULL,
    payload BYTEA NOT NULL,
    CONSTRAINT pk_quarantine PRIMARY KEY (id)
);

CREATE INDEX ix_quarantine_worker_id_received_at ON quarantine (worker_id, received_at);

CREATE TABLE audit (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    actor TEXT NOT NULL,
    address TEXT DEFAULT '' NOT NULL,
    action TEXT NOT NULL,
    object_type TEXT DEFAULT '' NOT NULL,
    object_id TEXT DEFAULT '' NOT NULL,
    detail JSONB DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT pk_audit PRIMARY KEY (id)
);

CREATE INDEX ix_audit_at ON audit (at);

CREATE TABLE result_ping (
    job_id BIGINT NOT NULL,
    scheduled_at TIMESTAMP WITH TIME ZONE NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    duration_ms DOUBLE PRECISION NOT NULL,
    clock_offset_ms DOUBLE PRECISION,
    loss_pct DOUBLE PRECISION,
    rtt_min_ms DOUBLE PRECISION,
    rtt_avg_ms DOUBLE PRECISION,
    rtt_median_ms DOUBLE PRECISION,
    rtt_max_ms DOUBLE PRECISION,
    rtt_stddev_ms DOUBLE PRECISION,
    rtt_p95_ms DOUBLE PRECISION,
    ipdv_avg_ms DOUBLE PRECISION,
    pdv_p95_ms DOUBLE PRECISION,
    rfc3550_jitter_ms DOUBLE PRECISION,
    bytes_sent BIGINT,
    bytes_received BIGINT,
    job_version INTEGER NOT NULL,
    packets_sent INTEGER,
    packets_received INTEGER,
    duplicates INTEGER,
    reordered INTEGER,
    late INTEGER,
    reply_ttl INTEGER,
    icmp_errors INTEGER,
    status SMALLINT NOT NULL,
    failure_source SMALLINT NOT NULL,
    kernel_timestamps BOOLEAN,
    error TEXT,
    detail JSONB,
    CONSTRAINT pk_result_ping PRIMARY KEY (job_id, scheduled_at)
)
 PARTITION BY RANGE (scheduled_at);

CREATE TABLE result_tcp (
    job_id BIGINT NOT NULL,
    scheduled_at TIMESTAMP WITH TIME ZONE NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    duration_ms DOUBLE PRECISION NOT NULL,
    clock_offset_ms DOUBLE PRECISION,
    dns_ms DOUBLE PRECISION,
    connect_ms DOUBLE PRECISION,
    kernel_rtt_ms DOUBLE PRECISION,
    kernel_min_rtt_ms DOUBLE PRECISION,
    job_version INTEGER NOT NULL,
    syn_retransmits INTEGER,
    mss_bytes INTEGER,
    path_mtu_bytes INTEGER,
    status SMALLINT NOT NULL,
    failure_source SMALLINT NOT NULL,
    error TEXT,
    detail JSONB,
    CONSTRAINT pk_result_tcp PRIMARY KEY (job_id, scheduled_at)
)
 PARTITION BY RANGE (scheduled_at);

CREATE TABLE result_dns (
    job_id BIGINT NOT NULL,
    scheduled_at TIMESTAMP WITH TIME ZONE NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    duration_ms DOUBLE PRECISION NOT NULL,
    clock_offset_ms DOUBLE PRECISION,
    query_ms DOUBLE PRECISION,
    job_version INTEGER NOT NULL,
    rcode INTEGER,
    answers INTEGER,
    ttl_min_s INTEGER,
    bytes_sent INTEGER,
    bytes_received INTEGER,
    status SMALLINT NOT NULL,
    failure_source SMALLINT NOT NULL,
    authenticated BOOLEAN,
    authoritative BOOLEAN,
    truncated BOOLEAN,
    error TEXT,
    detail JSONB,
    CONSTRAINT pk_result_dns PRIMARY KEY (job_id, scheduled_at)
)
 PARTITION BY RANGE (scheduled_at);

CREATE TABLE result_http (
    job_id BIGINT NOT NULL,
    scheduled_at TIMESTAMP WITH TIME ZONE NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    duration_ms DOUBLE PRECISION NOT NULL,
    clock_offset_ms DOUBLE PRECISION,
    dns_ms DOUBLE PRECISION,
    connect_ms DOUBLE PRECISION,
    tls_ms DOUBLE PRECISION,
    ttfb_ms DOUBLE PRECISION,
    transfer_ms DOUBLE PRECISION,
    total_ms DOUBLE PRECISION,
    body_bytes BIGINT,
    cert_days_left DOUBLE PRECISION,
    bytes_sent BIGINT,
    bytes_received BIGINT,
    job_version INTEGER NOT NULL,
    http_status INTEGER,
    redirects INTEGER,
    status SMALLINT NOT NULL,
    failure_source SMALLINT NOT NULL,
    error TEXT,
    detail JSONB,
    CONSTRAINT pk_result_http PRIMARY KEY (job_id, scheduled_at)
)
 PARTITION BY RANGE (scheduled_at);

CREATE TABLE result_system (
    job_id BIGINT NOT NULL,
    scheduled_at TIMESTAMP WITH TIME ZONE NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    duration_ms DOUBLE PRECISION NOT NULL,
    clock_offset_ms DOUBLE PRECISION,
    cpu_busy_pct DOUBLE PRECISION,
    cpu_user_pct DOUBLE PRECISION,
    cpu_system_pct DOUBLE PRECISION,
    cpu_iowait_pct DOUBLE PRECISION,
    cpu_steal_pct DOUBLE PRECISION,
    load1 DOUBLE PRECISION,
    load5 DOUBLE PRECISION,
    load15 DOUBLE PRECISION,
    context_switches_per_s DOUBLE PRECISION,
    interrupts_per_s DOUBLE PRECISION,
    memory_total_bytes BIGINT,
    memory_available_bytes BIGINT,
    memory_used_pct DOUBLE PRECISION,
    memory_cached_bytes BIGINT,
    swap_used_bytes BIGINT,
    uptime_s DOUBLE PRECISION,
    temperature_max_cel DOUBLE PRECISION,
    job_version INTEGER NOT NULL,
    cpu_count INTEGER,
    process_count INTEGER,
    status SMALLINT NOT NULL,
    failure_source SMALLINT NOT NULL,
    error TEXT,
    detail JSONB,
    CONSTRAINT pk_result_system PRIMARY KEY (job_id, scheduled_at)
)
 PARTITION BY RANGE (scheduled_at);

CREATE TABLE result_system_interfaces (
    job_id BIGINT NOT NULL,
    scheduled_at TIMESTAMP WITH TIME ZONE NOT NULL,
    receive_bytes_per_s DOUBLE PRECISION,
    transmit_bytes_per_s DOUBLE PRECISION,
    receive_packets_per_s DOUBLE PRECISION,
    transmit_packets_per_s DOUBLE PRECISION,
    errors_per_s DOUBLE PRECISION,
    drops_per_s DOUBLE PRECISION,
    mtu_bytes INTEGER,
    up BOOLEAN,
    key TEXT NOT NULL,
    CONSTRAINT pk_result_system_interfaces PRIMARY KEY (job_id, scheduled_at, key)
)
 PARTITION BY RANGE (scheduled_at);

CREATE TABLE result_system_disks (
    job_id BIGINT NOT NULL,
    scheduled_at TIMESTAMP WITH TIME ZONE NOT NULL,
    total_bytes BIGINT,
    free_bytes BIGINT,
    used_pct DOUBLE PRECISION,
    read_bytes_per_s DOUBLE PRECISION,
    write_bytes_per_s DOUBLE PRECISION,
    key TEXT NOT NULL,
    CONSTRAINT pk_result_system_disks PRIMARY KEY (job_id, scheduled_at, key)
)
 PARTITION BY RANGE (scheduled_at);

CREATE TABLE login_links (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    user_id BIGINT NOT NULL,
    token_hash BYTEA NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    used_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_login_links PRIMARY KEY (id),
    CONSTRAINT fk_login_links_user_id FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE,
    CONSTRAINT uq_login_links_token_hash UNIQUE (token_hash)
);

CREATE TABLE web_sessions (
    id_hash BYTEA NOT NULL,
    user_id BIGINT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    seen_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_web_sessions PRIMARY KEY (id_hash),
    CONSTRAINT fk_web_sessions_user_id FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);

CREATE INDEX ix_web_sessions_user_id ON web_sessions (user_id);

CREATE INDEX ix_web_sessions_created_at ON web_sessions (created_at);

CREATE TABLE api_tokens (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL,
    description TEXT DEFAULT '' NOT NULL,
    scope TEXT NOT NULL,
    token_hash BYTEA NOT NULL,
    prefix TEXT NOT NULL,
    user_id BIGINT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE,
    revoked_at TIMESTAMP WITH TIME ZONE,
    last_used_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_api_tokens PRIMARY KEY (id),
    CONSTRAINT ck_api_tokens_scope CHECK (scope IN ('admin', 'operator', 'viewer')),
    CONSTRAINT uq_api_tokens_token_hash UNIQUE (token_hash),
    CONSTRAINT fk_api_tokens_user_id FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);

CREATE TABLE workers (
    id UUID DEFAULT gen_random_uuid() NOT NULL,
    name TEXT NOT NULL,
    host_name TEXT NOT NULL,
    site TEXT DEFAULT '' NOT NULL,
    labels JSONB DEFAULT '{}'::jsonb NOT NULL,
    groups JSONB DEFAULT '[]'::jsonb NOT NULL,
    version TEXT DEFAULT '' NOT NULL,
    contract_version INTEGER DEFAULT '0' NOT NULL,
    instance_id TEXT DEFAULT '' NOT NULL,
    boot_id TEXT DEFAULT '' NOT NULL,
    facts JSONB DEFAULT '{}'::jsonb NOT NULL,
    policy JSONB DEFAULT '{}'::jsonb NOT NULL,
    kinds JSONB DEFAULT '{}'::jsonb NOT NULL,
    session_epoch BIGINT DEFAULT '0' NOT NULL,
    gateway_id BIGINT,
    connected_at TIMESTAMP WITH TIME ZONE,
    disconnected_at TIMESTAMP WITH TIME ZONE,
    last_seen_at TIMESTAMP WITH TIME ZONE,
    spool_id TEXT DEFAULT '' NOT NULL,
    acked_seq BIGINT DEFAULT '0' NOT NULL,
    spool_records BIGINT DEFAULT '0' NOT NULL,
    spool_alarm TEXT DEFAULT '' NOT NULL,
    clock_offset_ms DOUBLE PRECISION,
    jobs_revision BIGINT DEFAULT '0' NOT NULL,
    jobs_applied BIGINT DEFAULT '0' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    enrolled_at TIMESTAMP WITH TIME ZONE,
    revoked_at TIMESTAMP WITH TIME ZONE,
    deleted_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_workers PRIMARY KEY (id),
    CONSTRAINT fk_workers_gateway_id FOREIGN KEY(gateway_id) REFERENCES processes (id) ON DELETE SET NULL
);

CREATE UNIQUE INDEX uq_workers_host_name_live ON workers (host_name) WHERE deleted_at IS NULL;

CREATE INDEX ix_workers_gateway_id ON workers (gateway_id);

CREATE TABLE test_destinations (
    test_id BIGINT NOT NULL,
    destination_id BIGINT NOT NULL,
    CONSTRAINT pk_test_destinations PRIMARY KEY (test_id, destination_id),
    CONSTRAINT fk_test_destinations_test_id FOREIGN KEY(test_id) REFERENCES tests (id) ON DELETE CASCADE,
    CONSTRAINT fk_test_destinations_destination_id FOREIGN KEY(destination_id) REFERENCES destinations (id) ON DELETE RESTRICT
);

CREATE INDEX ix_test_destinations_destination_id ON test_destinations (destination_id);

CREATE TABLE certificates (
    serial TEXT NOT NULL,
    worker_id UUID NOT NULL,
    not_before TIMESTAMP WITH TIME ZONE NOT NULL,
    not_after TIMESTAMP WITH TIME ZONE NOT NULL,
    issued_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    first_used_at TIMESTAMP WITH TIME ZONE,
    superseded_at TIMESTAMP WITH TIME ZONE,
    revoked_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_certificates PRIMARY KEY (serial),
    CONSTRAINT fk_certificates_worker_id FOREIGN KEY(worker_id) REFERENCES workers (id) ON DELETE CASCADE
);

CREATE INDEX ix_certificates_worker_id ON certificates (worker_id);

CREATE TABLE jobs (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    test_id BIGINT NOT NULL,
    worker_id UUID NOT NULL,
    destination_id BIGINT,
    kind TEXT NOT NULL,
    version INTEGER DEFAULT '1' NOT NULL,
    target TEXT DEFAULT '' NOT NULL,
    spec JSONB NOT NULL,
    interval_us BIGINT NOT NULL,
    anchor_us BIGINT NOT NULL,
    starts_at TIMESTAMP WITH TIME ZONE,
    ends_at TIMESTAMP WITH TIME ZONE,
    paused BOOLEAN DEFAULT false NOT NULL,
    one_shot BOOLEAN DEFAULT false NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    retired_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_jobs PRIMARY KEY (id),
    CONSTRAINT fk_jobs_test_id FOREIGN KEY(test_id) REFERENCES tests (id) ON DELETE RESTRICT,
    CONSTRAINT fk_jobs_worker_id FOREIGN KEY(worker_id) REFERENCES workers (id) ON DELETE RESTRICT,
    CONSTRAINT fk_jobs_destination_id FOREIGN KEY(destination_id) REFERENCES destinations (id) ON DELETE RESTRICT
);

CREATE INDEX ix_jobs_worker_id_live ON jobs (worker_id) WHERE retired_at IS NULL;

CREATE INDEX ix_jobs_test_id ON jobs (test_id);

CREATE UNIQUE INDEX uq_jobs_test_worker_destination_live ON jobs (test_id, worker_id, coalesce(destination_id, 0)) WHERE retired_at IS NULL AND NOT one_shot;
