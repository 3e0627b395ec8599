-- Which workers cannot run every kind: few of thousands, whose announcements nobody then has to look through.

CREATE INDEX ix_workers_unavailable ON workers (id) WHERE jsonb_path_exists(kinds, '$.* ? (!(@.available == true))');
