"""`zizq.enqueue`, by which applications enqueue inside a transaction of their own; what it accepts rests in an inbox.

It checks what can be known there: names, ranges, misspelt options. So a bad call fails in the transaction that made it.
The rest, such as a budget that is missing, is known when a server moves the job into its queue, by the rules that hold
for all jobs; what is here repeats some of those (protocol.md#2.2) and decides nothing. The function is for programs in
any language: its four arguments stay as they are, and what is new becomes an option.
"""

MIGRATION = r"""
    CREATE TABLE zizq.inbox (
        id text COLLATE "C" PRIMARY KEY, -- that of the job
        job jsonb NOT NULL, -- as POST /jobs takes it
        size integer NOT NULL -- the bytes of its payload
    ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

    CREATE SEQUENCE zizq.job_numbers CYCLE MAXVALUE 281474976710655; -- 48 bits

    -- An identifier (ids.py): milliseconds, a counter that puts the jobs of one transaction in order, and chance.
    CREATE FUNCTION zizq.new_id() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
    DECLARE
        digits CONSTANT text := '0123456789abcdefghijklmnopqrstuvwxyz';
        half CONSTANT numeric := 4738381338321616896; -- 36 ^ 12
        number numeric := floor(extract(epoch FROM clock_timestamp()) * 1000) * 1208925819614629174706176 -- 2 ^ 80
            + nextval('zizq.job_numbers') * 4294967296::numeric + floor(random() * 4294967296)::bigint;
        high bigint := div(number, half);
        low bigint := number - high * half;
        id text := '';
    BEGIN
        FOR place IN 1..12 LOOP
            id := substr(digits, (low % 36)::integer + 1, 1) || id;
            low := low / 36;
        END LOOP;
        FOR place IN 1..13 LOOP
            id := substr(digits, (high % 36)::integer + 1, 1) || id;
            high := high / 36;
        END LOOP;
        RETURN id;
    END $$;

    CREATE FUNCTION zizq.refuse(message text) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION USING MESSAGE = 'zizq.enqueue: ' || message, ERRCODE = 'invalid_parameter_value';
    END $$;

    CREATE FUNCTION zizq.check_name(field text, name text) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        IF name IS NULL OR name = '' THEN
            PERFORM zizq.refuse(field || ' must not be empty');
        ELSIF strpos(name, ',') > 0 THEN
            PERFORM zizq.refuse(field || ' must not contain '',''');
        ELSIF name ~ '[*?\[\]{}\\]' THEN
            PERFORM zizq.refuse(
                format('%s must not contain ''%s'' (reserved)', field, substring(name, '[*?\[\]{}\\]'))
            );
        END IF;
    END $$;

    CREATE FUNCTION zizq.check_number(field text, value jsonb, low numeric, high numeric)
    RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        IF jsonb_typeof(value) = 'number' THEN
            IF value::numeric BETWEEN low AND high AND value::numeric % 1 = 0 THEN
                RETURN;
            END IF;
        END IF;
        PERFORM zizq.refuse(format('%s must be a whole number from %s to %s, not %s', field, low, high, value));
    END $$;

    CREATE FUNCTION zizq.check_kind(field text, value jsonb, kind text) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        IF jsonb_typeof(value) IS DISTINCT FROM kind THEN
            PERFORM zizq.refuse(
                format('%s must be of JSON''s type %s, not %s', field, kind, coalesce(value::text, 'missing'))
            );
        END IF;
    END $$;

    CREATE FUNCTION zizq.check_members(field text, value jsonb, known text[]) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        unknown text;
    BEGIN
        PERFORM zizq.check_kind(field, value, 'object');
        SELECT min(name) INTO unknown FROM jsonb_object_keys(value) name WHERE name <> ALL (known);
        IF unknown IS NOT NULL THEN
            PERFORM zizq.refuse(format('%s has no %s: choose from %s', field, unknown, array_to_string(known, ', ')));
        END IF;
    END $$;

    CREATE FUNCTION zizq.check_metadata(value jsonb) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        entry record;
        entries integer := 0;
        bytes integer := 0;
    BEGIN
        PERFORM zizq.check_kind('metadata', value, 'object');
        FOR entry IN SELECT * FROM jsonb_each(value) e (name, text) LOOP
            PERFORM zizq.check_kind('metadata.' || entry.name, entry.text, 'string');
            IF length(entry.name) NOT BETWEEN 1 AND 64 THEN
                PERFORM zizq.refuse(format('the name %s in metadata must have from 1 to 64 characters', entry.name));
            END IF;
            entries := entries + 1;
            bytes := bytes + octet_length(entry.name) + octet_length(entry.text #>> '{}');
        END LOOP;
        IF entries > 32 OR bytes > 4096 THEN
            PERFORM zizq.refuse(
                format('metadata has %s entries and %s bytes, and may have 32 and 4096', entries, bytes)
            );
        END IF;
    END $$;

    CREATE FUNCTION zizq.check_budgets(value jsonb) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        draw jsonb;
        named text[] := '{}';
    BEGIN
        PERFORM zizq.check_kind('budgets', value, 'array');
        FOR draw IN SELECT * FROM jsonb_array_elements(value) LOOP
            PERFORM zizq.check_members('budgets', draw, '{key,cost,create_with}');
            PERFORM zizq.check_kind('budgets.key', draw -> 'key', 'string');
            PERFORM zizq.check_name('budget key', draw ->> 'key');
            IF draw ->> 'key' = ANY (named) THEN
                PERFORM zizq.refuse(format('budget ''%s'' named more than once', draw ->> 'key'));
            END IF;
            named := named || (draw ->> 'key');
            IF draw ->> 'cost' IS NOT NULL THEN
                PERFORM zizq.check_number('budgets.cost', draw -> 'cost', 1, 4294967295);
            END IF;
            IF draw ->> 'create_with' IS NOT NULL THEN
                PERFORM zizq.check_members('create_with', draw -> 'create_with', '{allocation,strategy}');
                PERFORM zizq.check_number('create_with.allocation', draw #> '{create_with,allocation}', 1, 1000000);
                PERFORM zizq.check_members(
                    'create_with.strategy', draw #> '{create_with,strategy}', '{type,duration_ms,burst}'
                );
            END IF;
        END LOOP;
    END $$;

    CREATE FUNCTION zizq.check_option(name text, value jsonb) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        member text;
    BEGIN
        CASE name
            WHEN 'priority' THEN PERFORM zizq.check_number(name, value, 0, 65535);
            WHEN 'ready_at' THEN PERFORM zizq.check_number(name, value, 0, 9223372036854775807);
            WHEN 'retry_limit' THEN PERFORM zizq.check_number(name, value, 0, 4294967295);
            WHEN 'timeout_ms' THEN PERFORM zizq.check_number(name, value, 1, 9223372036854775807);
            WHEN 'unique_key' THEN PERFORM zizq.check_kind(name, value, 'string');
            WHEN 'unique_while' THEN
                IF value #>> '{}' NOT IN ('queued', 'active', 'exists') THEN
                    PERFORM zizq.refuse(format('unique_while must be "queued", "active" or "exists", not %s', value));
                END IF;
            WHEN 'backoff' THEN
                PERFORM zizq.check_members(name, value, '{exponent,base_ms,jitter_ms}');
                PERFORM zizq.check_kind('backoff.exponent', value -> 'exponent', 'number');
                PERFORM zizq.check_number('backoff.base_ms', value -> 'base_ms', 0, 4294967295);
                PERFORM zizq.check_number('backoff.jitter_ms', value -> 'jitter_ms', 0, 4294967295);
            WHEN 'retention' THEN
                PERFORM zizq.check_members(name, value, '{completed_ms,dead_ms}');
                FOR member IN SELECT key FROM jsonb_each(value) WHERE jsonb_each.value <> 'null' LOOP
                    PERFORM zizq.check_number('retention.' || member, value -> member, 0, 9223372036854775807);
                END LOOP;
            WHEN 'batch' THEN
                PERFORM zizq.check_members(name, value, '{key,when,fold}');
                FOREACH member IN ARRAY '{key,when,fold}'::text[] LOOP
                    PERFORM zizq.check_kind('batch.' || member, value -> member, 'string');
                END LOOP;
            WHEN 'budgets' THEN PERFORM zizq.check_budgets(value);
            WHEN 'metadata' THEN PERFORM zizq.check_metadata(value);
        END CASE;
    END $$;

    CREATE FUNCTION zizq.checked_options(given jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
    DECLARE
        entry record;
        options jsonb := '{}';
    BEGIN
        PERFORM zizq.check_members('options', given, ARRAY[
            'priority', 'ready_at', 'retry_limit', 'backoff', 'retention', 'unique_key', 'unique_while', 'batch',
            'budgets', 'timeout_ms', 'metadata'
        ]);
        FOR entry IN SELECT * FROM jsonb_each(given) e (name, value) WHERE e.value <> 'null' LOOP
            IF entry.name = 'ready_at' AND jsonb_typeof(entry.value) = 'string' THEN
                -- A time as SQL has it, which JSON makes a text.
                entry.value := to_jsonb(floor(extract(epoch FROM (entry.value #>> '{}')::timestamptz) * 1000));
            END IF;
            PERFORM zizq.check_option(entry.name, entry.value);
            options := options || jsonb_build_object(entry.name, entry.value);
        END LOOP;
        IF options ? 'unique_while' AND NOT options ? 'unique_key' THEN
            PERFORM zizq.refuse('unique_while requires unique_key');
        ELSIF options ? 'unique_key' AND options ? 'batch' THEN
            PERFORM zizq.refuse('unique_key and batch cannot be combined');
        END IF;
        RETURN options;
    END $$;

    -- Whoever may call it needs no right to any table.
    CREATE FUNCTION zizq.enqueue(type text, queue text, payload jsonb, options jsonb DEFAULT '{}') RETURNS text
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
        job_id CONSTANT text := zizq.new_id();
        size CONSTANT integer := octet_length(payload::text);
    BEGIN
        PERFORM zizq.check_name('type', type);
        PERFORM zizq.check_name('queue', queue);
        -- They are in one row of an index, which has room for 2,700 bytes.
        IF octet_length(type) + octet_length(queue) > 2000 THEN
            PERFORM zizq.refuse(
                format('type and queue have %s bytes, and may have 2000', octet_length(type) + octet_length(queue))
            );
        END IF;
        IF payload IS NULL THEN
            PERFORM zizq.refuse('payload must not be NULL: ''null''::jsonb is a payload');
        ELSIF size > 16777216 THEN
            PERFORM zizq.refuse('payload is larger than 16 MiB: put it elsewhere, and only its place into the job');
        END IF;
        INSERT INTO zizq.inbox (id, job, size) VALUES (
            job_id,
            zizq.checked_options(coalesce(options, '{}'))
                || jsonb_build_object('type', type, 'queue', queue, 'payload', payload),
            size
        );
        RETURN job_id;
    END $$;
    COMMENT ON FUNCTION zizq.enqueue IS 'Enqueues a job if, and only if, this transaction commits; returns its id.';
"""
"""What makes it all; a later change is a migration of its own."""
