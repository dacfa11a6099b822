-- Claims to domains, their checks by DNS, and ownerships that follow from them
-- depends: 0004_invitations

-- migrate: apply

CREATE TABLE domain_claim (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES account,
    name text NOT NULL,
    covers_subdomains boolean NOT NULL,
    -- What has to stand in the DNS. Public, but of use to this claim alone.
    code text NOT NULL CONSTRAINT domain_claim_code_unique UNIQUE,
    added_at timestamptz NOT NULL,
    removed_at timestamptz,
    -- When its checks began; NULL: they have not, or have to be begun anew.
    begun_at timestamptz,
    is_verified boolean NOT NULL DEFAULT false,
    -- Why it is not verified, or what the latest check of a verified one found instead.
    reason text DEFAULT 'Ownership not yet verified',
    -- Authoritative negatives since the latest success, the first of them, and the warning.
    negatives integer NOT NULL DEFAULT 0,
    failing_since timestamptz,
    warned_at timestamptz,
    -- Look-ups that failed, in a row.
    failures integer NOT NULL DEFAULT 0,
    -- What the latest check found instead, and how to mend it.
    hint text,
    last_checked_at timestamptz,
    last_verified_at timestamptz,
    next_check_at timestamptz,
    -- Whether the code was found where it proves all subdomains, too.
    proves_subdomains boolean NOT NULL DEFAULT false,
    -- The name servers at the latest success, and whether others were seen since.
    nameservers text[],
    at_risk boolean NOT NULL DEFAULT false,
    CHECK (removed_at IS NULL OR NOT is_verified),
    CHECK ((failing_since IS NULL) = (negatives = 0))
);

CREATE UNIQUE INDEX domain_claim_live ON domain_claim (account_id, name) WHERE removed_at IS NULL;
CREATE INDEX domain_claim_name ON domain_claim (name) WHERE removed_at IS NULL;
CREATE INDEX domain_claim_due ON domain_claim (next_check_at)
    WHERE removed_at IS NULL AND next_check_at IS NOT NULL;

-- What checks found, each time that it was something else than before.
CREATE TABLE domain_evidence (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    claim_id uuid NOT NULL REFERENCES domain_claim,
    at timestamptz NOT NULL,
    change text NOT NULL,
    -- What was asked, of whom, and what came back; NULL where no look-up was behind it.
    evidence jsonb
);

CREATE INDEX domain_evidence_claim ON domain_evidence (claim_id, id);

ALTER TABLE ownership
    ADD COLUMN claim_id uuid REFERENCES domain_claim,
    DROP CONSTRAINT ownership_method_check,
    ADD CONSTRAINT ownership_method_check CHECK (method IN ('attested', 'dns')),
    ADD CONSTRAINT ownership_claim_check CHECK ((method = 'dns') = (claim_id IS NOT NULL));

-- What operators have attested is claimed, too.
INSERT INTO domain_claim (id, account_id, name, covers_subdomains, code, added_at)
SELECT gen_random_uuid(), account_id, domain, covers_subdomains,
    'activeprospect-domain-verification=' || replace(gen_random_uuid() || '' || gen_random_uuid(), '-', ''),
    started_at
FROM ownership WHERE ended_at IS NULL;

-- migrate: rollback

DELETE FROM ownership WHERE method = 'dns';

ALTER TABLE ownership
    DROP COLUMN claim_id,
    DROP CONSTRAINT ownership_method_check,
    ADD CONSTRAINT ownership_method_check CHECK (method IN ('attested'));

DROP TABLE domain_evidence, domain_claim;
