-- The time that removal goes by, and how many results of a worker came after theirs.

CREATE TABLE upkeep_clock (
    id SMALLINT NOT NULL,
    reached TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_upkeep_clock PRIMARY KEY (id),
    CONSTRAINT ck_upkeep_clock_one CHECK (id = 1)
);

ALTER TABLE workers ADD COLUMN results_expired BIGINT DEFAULT 0 NOT NULL;
ALTER TABLE workers ADD COLUMN results_expired_at TIMESTAMP WITH TIME ZONE;
