-- Which jobs have nothing that speaks against them: a verdict on thousands reads no more of those than this.

ALTER TABLE diagnosis_states
    ADD COLUMN calm boolean NOT NULL GENERATED ALWAYS AS (
        needed = 0
        AND coalesce(reading @? 'strict $.runs[0]', false)
        AND NOT coalesce(reading @? 'strict $.runs[*] ? (@[1] <> "ok")', false)
        AND NOT coalesce(reading @? 'strict $.metrics[*] ? (@.state == "called")', false)
    ) STORED,
    ADD COLUMN newest_us bigint GENERATED ALWAYS AS (
        (jsonb_path_query_first(reading, '$.runs[last][0]'))::bigint
    ) STORED,
    ADD COLUMN ranges integer NOT NULL GENERATED ALWAYS AS (
        jsonb_array_length(jsonb_path_query_array(reading, '$.metrics[*] ? (@.high != null)'))
    ) STORED;
