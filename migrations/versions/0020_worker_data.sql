-- When a worker was deleted with its data, and when the last of them had gone.

ALTER TABLE workers ADD COLUMN data_deleted_at TIMESTAMP WITH TIME ZONE;
ALTER TABLE workers ADD COLUMN data_removed_at TIMESTAMP WITH TIME ZONE;
