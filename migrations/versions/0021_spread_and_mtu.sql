-- `ping`: 95th percentile less median. `traceroute`: the MTU of a hop's next link.

ALTER TABLE result_ping
    ADD COLUMN p95_p50_ms DOUBLE PRECISION;

ALTER TABLE rollup_ping_5m
    ADD COLUMN p95_p50_ms_sum DOUBLE PRECISION,
    ADD COLUMN p95_p50_ms_min DOUBLE PRECISION,
    ADD COLUMN p95_p50_ms_max DOUBLE PRECISION,
    ADD COLUMN p95_p50_ms_n INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollup_ping_5m ALTER COLUMN p95_p50_ms_n DROP DEFAULT;

ALTER TABLE rollup_ping_1h
    ADD COLUMN p95_p50_ms_sum DOUBLE PRECISION,
    ADD COLUMN p95_p50_ms_min DOUBLE PRECISION,
    ADD COLUMN p95_p50_ms_max DOUBLE PRECISION,
    ADD COLUMN p95_p50_ms_n INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollup_ping_1h ALTER COLUMN p95_p50_ms_n DROP DEFAULT;

ALTER TABLE rollup_ping_1d
    ADD COLUMN p95_p50_ms_sum DOUBLE PRECISION,
    ADD COLUMN p95_p50_ms_min DOUBLE PRECISION,
    ADD COLUMN p95_p50_ms_max DOUBLE PRECISION,
    ADD COLUMN p95_p50_ms_n INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollup_ping_1d ALTER COLUMN p95_p50_ms_n DROP DEFAULT;

ALTER TABLE result_traceroute_hops
    ADD COLUMN mtu_bytes INTEGER;

ALTER TABLE rollup_traceroute_hops_5m
    ADD COLUMN mtu_bytes_sum DOUBLE PRECISION,
    ADD COLUMN mtu_bytes_min DOUBLE PRECISION,
    ADD COLUMN mtu_bytes_max DOUBLE PRECISION,
    ADD COLUMN mtu_bytes_n INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollup_traceroute_hops_5m ALTER COLUMN mtu_bytes_n DROP DEFAULT;

ALTER TABLE rollup_traceroute_hops_1h
    ADD COLUMN mtu_bytes_sum DOUBLE PRECISION,
    ADD COLUMN mtu_bytes_min DOUBLE PRECISION,
    ADD COLUMN mtu_bytes_max DOUBLE PRECISION,
    ADD COLUMN mtu_bytes_n INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollup_traceroute_hops_1h ALTER COLUMN mtu_bytes_n DROP DEFAULT;

ALTER TABLE rollup_traceroute_hops_1d
    ADD COLUMN mtu_bytes_sum DOUBLE PRECISION,
    ADD COLUMN mtu_bytes_min DOUBLE PRECISION,
    ADD COLUMN mtu_bytes_max DOUBLE PRECISION,
    ADD COLUMN mtu_bytes_n INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollup_traceroute_hops_1d ALTER COLUMN mtu_bytes_n DROP DEFAULT;
