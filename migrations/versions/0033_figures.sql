-- What was judged in an upgrade, in numbers.

ALTER TABLE operations ADD COLUMN figures JSONB DEFAULT '[]'::jsonb NOT NULL;
