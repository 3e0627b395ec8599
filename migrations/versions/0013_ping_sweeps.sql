-- Pings of networks: how many addresses answer, and what each says; what this host dropped.

ALTER TABLE result_ping
    ADD COLUMN addresses INTEGER,
    ADD COLUMN addresses_answering INTEGER,
    ADD COLUMN dropped_here INTEGER;

ALTER TABLE rollup_ping_5m
    ADD COLUMN addresses_sum DOUBLE PRECISION,
    ADD COLUMN addresses_min DOUBLE PRECISION,
    ADD COLUMN addresses_max DOUBLE PRECISION,
    ADD COLUMN addresses_answering_sum DOUBLE PRECISION,
    ADD COLUMN addresses_answering_min DOUBLE PRECISION,
    ADD COLUMN addresses_answering_max DOUBLE PRECISION,
    ADD COLUMN dropped_here_sum DOUBLE PRECISION,
    ADD COLUMN dropped_here_min DOUBLE PRECISION,
    ADD COLUMN dropped_here_max DOUBLE PRECISION,
    ADD COLUMN addresses_n INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN addresses_answering_n INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN dropped_here_n INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollup_ping_5m
    ALTER COLUMN addresses_n DROP DEFAULT,
    ALTER COLUMN addresses_answering_n DROP DEFAULT,
    ALTER COLUMN dropped_here_n DROP DEFAULT;

ALTER TABLE rollup_ping_1h
    ADD COLUMN addresses_sum DOUBLE PRECISION,
    ADD COLUMN addresses_min DOUBLE PRECISION,
    ADD COLUMN addresses_max DOUBLE PRECISION,
    ADD COLUMN addresses_answering_sum DOUBLE PRECISION,
    ADD COLUMN addresses_answering_min DOUBLE PRECISION,
    ADD COLUMN addresses_answering_max DOUBLE PRECISION,
    ADD COLUMN dropped_here_sum DOUBLE PRECISION,
    ADD COLUMN dropped_here_min DOUBLE PRECISION,
    ADD COLUMN dropped_here_max DOUBLE PRECISION,
    ADD COLUMN addresses_n INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN addresses_answering_n INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN dropped_here_n INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollup_ping_1h
    ALTER COLUMN addresses_n DROP DEFAULT,
    ALTER COLUMN addresses_answering_n DROP DEFAULT,
    ALTER COLUMN dropped_here_n DROP DEFAULT;

ALTER TABLE rollup_ping_1d
    ADD COLUMN addresses_sum DOUBLE PRECISION,
    ADD COLUMN addresses_min DOUBLE PRECISION,
    ADD COLUMN addresses_max DOUBLE PRECISION,
    ADD COLUMN addresses_answering_sum DOUBLE PRECISION,
    ADD COLUMN addresses_answering_min DOUBLE PRECISION,
    ADD COLUMN addresses_answering_max DOUBLE PRECISION,
    ADD COLUMN dropped_here_sum DOUBLE PRECISION,
    ADD COLUMN dropped_here_min DOUBLE PRECISION,
    ADD COLUMN dropped_here_max DOUBLE PRECISION,
    ADD COLUMN addresses_n INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN addresses_answering_n INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN dropped_here_n INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollup_ping_1d
    ALTER COLUMN addresses_n DROP DEFAULT,
    ALTER COLUMN addresses_answering_n DROP DEFAULT,
    ALTER COLUMN dropped_here_n DROP DEFAULT;

CREATE TABLE result_ping_by_address (
    job_id BIGINT NOT NULL,
    scheduled_at TIMESTAMP WITH TIME ZONE NOT NULL,
    rtt_avg_ms DOUBLE PRECISION,
    loss_pct DOUBLE PRECISION,
    key TEXT NOT NULL,
    CONSTRAINT pk_result_ping_by_address PRIMARY KEY (job_id, scheduled_at, key)
)
 PARTITION BY RANGE (scheduled_at);

CREATE TABLE rollup_ping_by_address_5m (
    job_id BIGINT NOT NULL,
    bucket TIMESTAMP WITH TIME ZONE NOT NULL,
    rtt_avg_ms_sum DOUBLE PRECISION,
    rtt_avg_ms_min DOUBLE PRECISION,
    rtt_avg_ms_max DOUBLE PRECISION,
    loss_pct_sum DOUBLE PRECISION,
    loss_pct_min DOUBLE PRECISION,
    loss_pct_max DOUBLE PRECISION,
    rtt_avg_ms_n INTEGER NOT NULL,
    loss_pct_n INTEGER NOT NULL,
    key TEXT NOT NULL,
    CONSTRAINT pk_rollup_ping_by_address_5m PRIMARY KEY (job_id, bucket, key)
)
 PARTITION BY RANGE (bucket);

CREATE TABLE rollup_ping_by_address_1h (
    job_id BIGINT NOT NULL,
    bucket TIMESTAMP WITH TIME ZONE NOT NULL,
    rtt_avg_ms_sum DOUBLE PRECISION,
    rtt_avg_ms_min DOUBLE PRECISION,
    rtt_avg_ms_max DOUBLE PRECISION,
    loss_pct_sum DOUBLE PRECISION,
    loss_pct_min DOUBLE PRECISION,
    loss_pct_max DOUBLE PRECISION,
    rtt_avg_ms_n INTEGER NOT NULL,
    loss_pct_n INTEGER NOT NULL,
    key TEXT NOT NULL,
    CONSTRAINT pk_rollup_ping_by_address_1h PRIMARY KEY (job_id, bucket, key)
)
 PARTITION BY RANGE (bucket);

CREATE TABLE rollup_ping_by_address_1d (
    job_id BIGINT NOT NULL,
    bucket TIMESTAMP WITH TIME ZONE NOT NULL,
    rtt_avg_ms_sum DOUBLE PRECISION,
    rtt_avg_ms_min DOUBLE PRECISION,
    rtt_avg_ms_max DOUBLE PRECISION,
    loss_pct_sum DOUBLE PRECISION,
    loss_pct_min DOUBLE PRECISION,
    loss_pct_max DOUBLE PRECISION,
    rtt_avg_ms_n INTEGER NOT NULL,
    loss_pct_n INTEGER NOT NULL,
    key TEXT NOT NULL,
    CONSTRAINT pk_rollup_ping_by_address_1d PRIMARY KEY (job_id, bucket, key)
)
 PARTITION BY RANGE (bucket);
