-- Further metrics of `ping`: percentiles, the largest variation, loss periods, different TTLs.

ALTER TABLE result_ping
    ADD COLUMN rtt_p90_ms DOUBLE PRECISION,
    ADD COLUMN rtt_p99_ms DOUBLE PRECISION,
    ADD COLUMN ipdv_max_ms DOUBLE PRECISION,
    ADD COLUMN loss_periods INTEGER,
    ADD COLUMN longest_loss_period INTEGER,
    ADD COLUMN reply_ttls INTEGER;
