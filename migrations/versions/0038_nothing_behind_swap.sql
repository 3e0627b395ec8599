-- What a rewriting swaps out goes in the same transaction from now on, and so does what stands beside a day that is
-- removed. Keepers that were ended between the two have left tables that nobody would look for any more. An attempt
-- that was begun has its trigger, and keeps what is its; so does another installation in another schema.

DO $$
DECLARE
    beside text;
    held_by text;
BEGIN
    FOR beside IN
        SELECT relname FROM pg_class
        WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace
        AND relname ~ '^(new|late|old)_result_\w+_\d{4}_\d{2}_\d{2}$'
        AND (relname LIKE 'old\_%' OR NOT EXISTS (
            SELECT FROM pg_trigger
            WHERE tgname = 'keep_late'
            AND tgrelid = to_regclass(format('%I.%I', current_schema(), regexp_replace(relname, '^(new|late)_', '')))
        ))
    LOOP
        BEGIN
            EXECUTE format('DROP TABLE IF EXISTS %I.%I', current_schema(), beside);
        EXCEPTION WHEN dependent_objects_still_exist THEN
            GET STACKED DIAGNOSTICS held_by = PG_EXCEPTION_DETAIL;
            RAISE WARNING 'table %.% is of no use any more and stays: %; drop that, then DROP TABLE %.%',
                current_schema(), beside, held_by, current_schema(), beside;
        END;
    END LOOP;
END
$$;

DELETE FROM rewritten_partitions WHERE to_regclass(name) IS NULL;
