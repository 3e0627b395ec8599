-- What happened when a run did not end well, as the contract's FailureReason numbers it.

ALTER TABLE result_ping ADD COLUMN failure_reason SMALLINT;
ALTER TABLE result_tcp ADD COLUMN failure_reason SMALLINT;
ALTER TABLE result_dns ADD COLUMN failure_reason SMALLINT;
ALTER TABLE result_http ADD COLUMN failure_reason SMALLINT;
ALTER TABLE result_system ADD COLUMN failure_reason SMALLINT;
