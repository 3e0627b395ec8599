-- When a worker was taken out of service and put into it again, and by whom.

CREATE TABLE drains (
    worker_id UUID NOT NULL,
    since TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    until TIMESTAMP WITH TIME ZONE,
    made_by TEXT NOT NULL,
    CONSTRAINT pk_drains PRIMARY KEY (worker_id, since),
    CONSTRAINT fk_drains_worker_id_workers FOREIGN KEY(worker_id) REFERENCES workers (id) ON DELETE CASCADE
);

CREATE UNIQUE INDEX uq_drains_worker_id_open ON drains (worker_id) WHERE until IS NULL;
