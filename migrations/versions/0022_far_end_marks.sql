-- `qos`: what the worker at the destination tells of the marks with which packets came to it.

ALTER TABLE result_qos
    ADD COLUMN survived_pct DOUBLE PRECISION;

ALTER TABLE rollup_qos_5m
    ADD COLUMN survived_pct_sum DOUBLE PRECISION,
    ADD COLUMN survived_pct_min DOUBLE PRECISION,
    ADD COLUMN survived_pct_max DOUBLE PRECISION,
    ADD COLUMN survived_pct_n INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollup_qos_5m
    ALTER COLUMN survived_pct_n DROP DEFAULT;

ALTER TABLE rollup_qos_1h
    ADD COLUMN survived_pct_sum DOUBLE PRECISION,
    ADD COLUMN survived_pct_min DOUBLE PRECISION,
    ADD COLUMN survived_pct_max DOUBLE PRECISION,
    ADD COLUMN survived_pct_n INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollup_qos_1h
    ALTER COLUMN survived_pct_n DROP DEFAULT;

ALTER TABLE rollup_qos_1d
    ADD COLUMN survived_pct_sum DOUBLE PRECISION,
    ADD COLUMN survived_pct_min DOUBLE PRECISION,
    ADD COLUMN survived_pct_max DOUBLE PRECISION,
    ADD COLUMN survived_pct_n INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollup_qos_1d
    ALTER COLUMN survived_pct_n DROP DEFAULT;

ALTER TABLE result_qos_classes
    ADD COLUMN far_end_dscp INTEGER,
    ADD COLUMN survived_pct DOUBLE PRECISION;

ALTER TABLE rollup_qos_classes_5m
    ADD COLUMN far_end_dscp_sum DOUBLE PRECISION,
    ADD COLUMN far_end_dscp_min DOUBLE PRECISION,
    ADD COLUMN far_end_dscp_max DOUBLE PRECISION,
    ADD COLUMN far_end_dscp_n INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN survived_pct_sum DOUBLE PRECISION,
    ADD COLUMN survived_pct_min DOUBLE PRECISION,
    ADD COLUMN survived_pct_max DOUBLE PRECISION,
    ADD COLUMN survived_pct_n INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollup_qos_classes_5m
    ALTER COLUMN far_end_dscp_n DROP DEFAULT,
    ALTER COLUMN survived_pct_n DROP DEFAULT;

ALTER TABLE rollup_qos_classes_1h
    ADD COLUMN far_end_dscp_sum DOUBLE PRECISION,
    ADD COLUMN far_end_dscp_min DOUBLE PRECISION,
    ADD COLUMN far_end_dscp_max DOUBLE PRECISION,
    ADD COLUMN far_end_dscp_n INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN survived_pct_sum DOUBLE PRECISION,
    ADD COLUMN survived_pct_min DOUBLE PRECISION,
    ADD COLUMN survived_pct_max DOUBLE PRECISION,
    ADD COLUMN survived_pct_n INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollup_qos_classes_1h
    ALTER COLUMN far_end_dscp_n DROP DEFAULT,
    ALTER COLUMN survived_pct_n DROP DEFAULT;

ALTER TABLE rollup_qos_classes_1d
    ADD COLUMN far_end_dscp_sum DOUBLE PRECISION,
    ADD COLUMN far_end_dscp_min DOUBLE PRECISION,
    ADD COLUMN far_end_dscp_max DOUBLE PRECISION,
    ADD COLUMN far_end_dscp_n INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN survived_pct_sum DOUBLE PRECISION,
    ADD COLUMN survived_pct_min DOUBLE PRECISION,
    ADD COLUMN survived_pct_max DOUBLE PRECISION,
    ADD COLUMN survived_pct_n INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollup_qos_classes_1d
    ALTER COLUMN far_end_dscp_n DROP DEFAULT,
    ALTER COLUMN survived_pct_n DROP DEFAULT;
