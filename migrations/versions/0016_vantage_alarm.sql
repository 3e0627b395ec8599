-- What a worker says is wrong with its own host's access to the network.

ALTER TABLE workers ADD COLUMN vantage_alarm TEXT DEFAULT '' NOT NULL;
