-- Which roots of the certificate authority are this installation's: a process with another one refuses to start.

CREATE TABLE trusted_roots (
    fingerprint TEXT NOT NULL,
    host_name TEXT NOT NULL,
    registered_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_trusted_roots PRIMARY KEY (fingerprint)
);
