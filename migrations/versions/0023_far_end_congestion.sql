-- `qos`: congestion marks with which packets of a class came to the worker at the destination.

ALTER TABLE result_qos_classes
    ADD COLUMN far_end_ce_marks INTEGER;

ALTER TABLE rollup_qos_classes_5m
    ADD COLUMN far_end_ce_marks_sum DOUBLE PRECISION,
    ADD COLUMN far_end_ce_marks_min DOUBLE PRECISION,
    ADD COLUMN far_end_ce_marks_max DOUBLE PRECISION,
    ADD COLUMN far_end_ce_marks_n INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollup_qos_classes_5m
    ALTER COLUMN far_end_ce_marks_n DROP DEFAULT;

ALTER TABLE rollup_qos_classes_1h
    ADD COLUMN far_end_ce_marks_sum DOUBLE PRECISION,
    ADD COLUMN far_end_ce_marks_min DOUBLE PRECISION,
    ADD COLUMN far_end_ce_marks_max DOUBLE PRECISION,
    ADD COLUMN far_end_ce_marks_n INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollup_qos_classes_1h
    ALTER COLUMN far_end_ce_marks_n DROP DEFAULT;

ALTER TABLE rollup_qos_classes_1d
    ADD COLUMN far_end_ce_marks_sum DOUBLE PRECISION,
    ADD COLUMN far_end_ce_marks_min DOUBLE PRECISION,
    ADD COLUMN far_end_ce_marks_max DOUBLE PRECISION,
    ADD COLUMN far_end_ce_marks_n INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollup_qos_classes_1d
    ALTER COLUMN far_end_ce_marks_n DROP DEFAULT;
