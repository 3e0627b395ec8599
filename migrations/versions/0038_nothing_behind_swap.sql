-- What a rewriting swaps out goes in the same transaction from now on, and so does what stands beside a day that is
-- removed. Keepers that were ended between the two have left tables that nobody would look for any more. An attempt
-- that was begun has its trigger, and keeps what is its.

DO $$
DECLARE
    beside text;
BEGIN
    FOR beside IN
        SELECT relname FROM pg_class
        WHERE relkind = 'r' AND pg_table_is_visible(oid) AND relname ~ '^(new|late|old)_result_\w+_\d{4}_\d{2}_\d{2}$'
        AND (relname LIKE 'old\_%' OR NOT EXISTS (
            SELECT FROM pg_trigger
            WHERE tgname = 'keep_late' AND tgrelid = to_regclass(regexp_replace(relname, '^(new|late)_', ''))
        ))
    LOOP
        EXECUTE format('DROP TABLE IF EXISTS %I', beside);
    END LOOP;
END
$$;

DELETE FROM rewritten_partitions WHERE to_regclass(name) IS NULL;
