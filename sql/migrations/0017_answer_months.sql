-- Answers are kept by month, so that old ones can be dropped at once
-- depends: 0016_answers

-- migrate: apply

-- Answers have UUIDs of version 7, which begin with a time in milliseconds (RFC 9562, section 5.7).
CREATE FUNCTION least_id_at(at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT rpad(lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0'), 32, '0')::uuid
$$;

ALTER TABLE answer RENAME TO answer_before;
ALTER INDEX answer_pkey RENAME TO answer_before_pkey;
ALTER INDEX answer_account RENAME TO answer_before_account;
ALTER INDEX answer_certificate RENAME TO answer_before_certificate;

CREATE TABLE answer (
    LIKE answer_before INCLUDING DEFAULTS INCLUDING CONSTRAINTS,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);

CREATE INDEX answer_account ON answer (account_id, id);
CREATE INDEX answer_certificate ON answer (account_id, cert_id);
-- Answers are recorded nearly in the order of their times, so a range of pages has a range of times.
CREATE INDEX answer_time ON answer USING brin (answered_at)
    WITH (pages_per_range = 16, autosummarize = on);

-- What no other partition is for, such as ids from a clock that is wrong.
CREATE TABLE answer_other PARTITION OF answer DEFAULT;

-- Make the partition for a month (UTC) if there is none.
CREATE FUNCTION make_answer_month(month timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    first date := date_trunc('month', month AT TIME ZONE 'UTC');
    name text := 'answer_' || to_char(first, 'YYYY_MM');
    since uuid := least_id_at(first::timestamp AT TIME ZONE 'UTC');
    until uuid := least_id_at((first + interval '1 month') AT TIME ZONE 'UTC');
BEGIN
    IF to_regclass(name) IS NOT NULL THEN
        RETURN;
    END IF;
    -- Attached once it is made, which lets answers be put on record meanwhile.
    EXECUTE format('CREATE TABLE %I (LIKE answer INCLUDING ALL)', name);
    EXECUTE format(
        'WITH moved AS (DELETE FROM answer_other WHERE id >= %L AND id < %L RETURNING *)
        INSERT INTO %I SELECT * FROM moved',
        since, until, name
    );
    EXECUTE format(
        'ALTER TABLE answer ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name, since, until
    );
END
$$;

-- What is on record already stays where it is, as the partition of all months so far.
DO $$
DECLARE
    next_month timestamptz
        := (date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC';
BEGIN
    WITH moved AS (DELETE FROM answer_before WHERE id >= least_id_at(next_month) RETURNING *)
    INSERT INTO answer_other SELECT * FROM moved;
    EXECUTE format(
        'ALTER TABLE answer ATTACH PARTITION answer_before FOR VALUES FROM (MINVALUE) TO (%L)',
        least_id_at(next_month)
    );
    PERFORM make_answer_month(next_month);
    PERFORM make_answer_month(next_month + interval '32 days');
END
$$;

-- migrate: rollback

CREATE TABLE answer_whole (LIKE answer INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
INSERT INTO answer_whole SELECT * FROM answer;
DROP TABLE answer;
ALTER TABLE answer_whole RENAME TO answer;
ALTER TABLE answer ADD CONSTRAINT answer_pkey PRIMARY KEY (id);
CREATE INDEX answer_account ON answer (account_id, id);
CREATE INDEX answer_certificate ON answer (account_id, cert_id);
DROP FUNCTION make_answer_month, least_id_at;
