-- What provisioning said last that a worker's policy shall be.

ALTER TABLE workers ADD COLUMN intended_policy JSONB;
