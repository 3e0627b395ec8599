-- In which time zone and form a user reads instants and numbers.

ALTER TABLE users ADD COLUMN zone TEXT DEFAULT '' NOT NULL;
ALTER TABLE users ADD COLUMN number_form TEXT DEFAULT '' NOT NULL;
