-- Which kinds of results cannot be rolled up or thinned out, since when, and why.

CREATE TABLE upkeep_troubles (
    task TEXT NOT NULL,
    kind TEXT NOT NULL,
    since TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    reason TEXT NOT NULL,
    times INTEGER DEFAULT 1 NOT NULL,
    CONSTRAINT pk_upkeep_troubles PRIMARY KEY (task, kind)
);
