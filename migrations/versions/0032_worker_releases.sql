-- Which release each worker had since when, by its sessions.

CREATE TABLE worker_releases (
    worker_id UUID NOT NULL,
    since TIMESTAMP WITH TIME ZONE NOT NULL,
    version TEXT NOT NULL,
    CONSTRAINT pk_worker_releases PRIMARY KEY (worker_id, since),
    CONSTRAINT fk_worker_releases_worker_id_workers FOREIGN KEY(worker_id) REFERENCES workers (id) ON DELETE CASCADE
);

-- As far as is known it has always been what it is.
INSERT INTO worker_releases (worker_id, since, version)
SELECT id, coalesce(enrolled_at, created_at), version FROM workers WHERE connected_at IS NOT NULL;
