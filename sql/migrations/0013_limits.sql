-- What an account may use, and what it has used
-- depends: 0012_keys

-- migrate: apply

-- NULL: as much as any account.
CREATE TABLE account_limit (
    account_id uuid PRIMARY KEY REFERENCES account,
    calls integer CHECK (calls > 0),
    certificates bigint CHECK (certificates >= 0),
    certificate_bytes bigint CHECK (certificate_bytes >= 0),
    purchases bigint CHECK (purchases >= 0)
);

-- How much room a certificate takes: what is told about it, uncompressed.
ALTER TABLE certificate ADD COLUMN bytes bigint NOT NULL GENERATED ALWAYS AS (
    octet_length(facts::text) + coalesce(octet_length(page_text), 0)
        + 40 * coalesce(cardinality(fingerprints), 0)
) STORED;

-- Recorded before there were bounds, and too heavy for a statement that many calls share.
ALTER TABLE certificate ADD COLUMN is_oversized boolean NOT NULL GENERATED ALWAYS AS (
    octet_length(facts::text) > 65536 OR coalesce(cardinality(fingerprints), 0) > 500
) STORED;

CREATE TABLE certificate_usage (
    account_id uuid PRIMARY KEY REFERENCES account,
    certificates bigint NOT NULL,
    bytes bigint NOT NULL
);

INSERT INTO certificate_usage
SELECT imported_by, count(*), sum(bytes) FROM certificate
WHERE imported_by IS NOT NULL GROUP BY imported_by;

-- Every way to record or delete certificates counts, without knowing that it does.
CREATE FUNCTION count_certificates() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO certificate_usage AS kept
        SELECT imported_by, count(*), sum(bytes) FROM added
        WHERE imported_by IS NOT NULL GROUP BY imported_by ORDER BY imported_by
        ON CONFLICT (account_id) DO UPDATE SET
            certificates = kept.certificates + excluded.certificates,
            bytes = kept.bytes + excluded.bytes;
    ELSIF TG_OP = 'UPDATE' THEN
        UPDATE certificate_usage SET bytes = certificate_usage.bytes + grown.bytes
        FROM (
            SELECT imported_by, sum(bytes) AS bytes
            FROM (
                SELECT imported_by, bytes FROM added UNION ALL SELECT imported_by, -bytes FROM removed
            ) AS changed
            WHERE imported_by IS NOT NULL GROUP BY imported_by
        ) AS grown
        WHERE account_id = grown.imported_by AND grown.bytes <> 0;
    ELSE
        UPDATE certificate_usage SET
            certificates = certificate_usage.certificates - gone.certificates,
            bytes = certificate_usage.bytes - gone.bytes
        FROM (
            SELECT imported_by, count(*) AS certificates, sum(bytes) AS bytes FROM removed
            WHERE imported_by IS NOT NULL GROUP BY imported_by
        ) AS gone
        WHERE account_id = gone.imported_by;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER certificate_added AFTER INSERT ON certificate
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_certificates();
CREATE TRIGGER certificate_changed AFTER UPDATE ON certificate
    REFERENCING NEW TABLE AS added OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION count_certificates();
CREATE TRIGGER certificate_removed AFTER DELETE ON certificate
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION count_certificates();

-- migrate: rollback

DROP TRIGGER certificate_added ON certificate;
DROP TRIGGER certificate_changed ON certificate;
DROP TRIGGER certificate_removed ON certificate;
DROP FUNCTION count_certificates;
DROP TABLE certificate_usage, account_limit;
ALTER TABLE certificate DROP COLUMN bytes, DROP COLUMN is_oversized;
