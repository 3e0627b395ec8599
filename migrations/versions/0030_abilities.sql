-- By what of a worker its jobs are planned, since when, and how often that has changed of late.

ALTER TABLE workers ADD COLUMN ability JSONB;
ALTER TABLE workers ADD COLUMN ability_at TIMESTAMP WITH TIME ZONE;
ALTER TABLE workers ADD COLUMN ability_changes INTEGER DEFAULT 0 NOT NULL;
