-- What match_lead, retain, page scans and the vendor behind us need
-- depends: 0001_accounts_to_answers

-- migrate: apply

CREATE SEQUENCE certificate_revision;

ALTER TABLE certificate
    -- The properties whose value is known, be it null; “host”, “fingerprints” and “page_text” likewise.
    ADD COLUMN known text[] NOT NULL DEFAULT '{}',
    -- When the vendor last told what may still move; NULL: it was imported, observed nobody knows when.
    ADD COLUMN fetched_at timestamptz,
    -- The last recorded interaction, where the vendor told its age rather than the time on the page.
    ADD COLUMN last_event_at timestamptz,
    -- Another with each change, and no two certificates share one.
    ADD COLUMN revision bigint;

-- Once over the table, which nobody can read meanwhile: stop the service for it where there are millions.
UPDATE certificate SET revision = nextval('certificate_revision'), known = ARRAY(
    SELECT jsonb_object_keys(facts)
    UNION SELECT 'created_at' WHERE created_at IS NOT NULL
    UNION SELECT 'expires_at' WHERE expires_at IS NOT NULL
    UNION SELECT 'seconds_on_page' WHERE seconds_on_page IS NOT NULL
    UNION SELECT 'age_seconds' WHERE created_at IS NOT NULL AND seconds_on_page IS NOT NULL
    UNION SELECT 'fingerprints' WHERE fingerprints IS NOT NULL
    UNION SELECT 'page_text' WHERE page_text IS NOT NULL
    UNION SELECT 'host' WHERE kind <> 'web' OR (host IS NOT NULL AND facts ? 'domain')
    ORDER BY 1
);

ALTER TABLE certificate
    ALTER COLUMN revision SET DEFAULT nextval('certificate_revision'),
    ALTER COLUMN revision SET NOT NULL;

-- For the purge.
CREATE INDEX certificate_recorded_at ON certificate (recorded_at);

-- What an account keeps of a certificate. No foreign key to the certificate, whose facts may be purged.
CREATE TABLE retained_certificate (
    account_id uuid NOT NULL REFERENCES account,
    cert_id text NOT NULL,
    reference text,
    vendor text,
    campaign_id text,
    retained_at timestamptz NOT NULL,
    -- The answer with which it was retained: whoever finds another there had retained it before.
    answer_id uuid NOT NULL,
    PRIMARY KEY (account_id, cert_id)
);

-- migrate: rollback

DROP TABLE retained_certificate;

DROP INDEX certificate_recorded_at;

ALTER TABLE certificate
    DROP COLUMN known,
    DROP COLUMN fetched_at,
    DROP COLUMN last_event_at,
    DROP COLUMN revision;

DROP SEQUENCE certificate_revision;
