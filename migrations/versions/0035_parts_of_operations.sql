-- Which operation another one belongs to: of a keeper's upgrade, what it judged and what it returned.

ALTER TABLE operations ADD COLUMN part_of BIGINT;
ALTER TABLE operations ADD CONSTRAINT fk_operations_part_of_operations
    FOREIGN KEY(part_of) REFERENCES operations (id) ON DELETE SET NULL;

CREATE INDEX ix_operations_part_of ON operations (part_of) WHERE part_of IS NOT NULL;
