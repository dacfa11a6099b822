-- Accounts, certificates, ownerships, connections, grants, events and answers
-- depends:

-- migrate: apply

CREATE TABLE account (
    id uuid PRIMARY KEY,
    name text NOT NULL CHECK (length(name) BETWEEN 2 AND 120),
    -- What the name looks like (UTS 39): no two accounts may look alike.
    name_skeleton text NOT NULL CONSTRAINT account_name_skeleton_unique UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    suspended_at timestamptz
);

CREATE TABLE app_user (
    id uuid PRIMARY KEY,
    email text NOT NULL CONSTRAINT app_user_email_unique UNIQUE CHECK (email = lower(email)),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE membership (
    account_id uuid NOT NULL REFERENCES account,
    user_id uuid NOT NULL REFERENCES app_user,
    role text NOT NULL CHECK (role IN ('admin', 'member')),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, user_id)
);

CREATE TABLE api_key (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES account,
    digest bytea NOT NULL CONSTRAINT api_key_digest_unique UNIQUE CHECK (octet_length(digest) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);

CREATE INDEX api_key_account ON api_key (account_id);

CREATE TABLE certificate (
    cert_id text NOT NULL CHECK (length(cert_id) BETWEEN 3 AND 255),
    -- NULL: known to the service, and serves every caller. Otherwise an account's own record of what
    -- it was told elsewhere, which serves that account alone.
    imported_by uuid REFERENCES account,
    kind text NOT NULL CHECK (kind IN ('web', 'mobile', 'meta')),
    account_id uuid REFERENCES account,
    -- The canonical host and the names that cover it, most specific first; both NULL where the
    -- certificate has no domain. They follow from the facts and the suffix list named beside them.
    host text,
    covering_names text[],
    suffix_list text,
    created_at timestamptz,
    expires_at timestamptz,
    seconds_on_page double precision CHECK (seconds_on_page >= 0),
    -- The other properties, named as in the Certificate API. Absent means unknown.
    facts jsonb NOT NULL,
    page_text text,
    -- SHA-1, lower-case hex.
    fingerprints text[],
    recorded_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT certificate_unique UNIQUE NULLS NOT DISTINCT (cert_id, imported_by),
    CHECK ((host IS NULL) = (covering_names IS NULL) AND (host IS NULL) = (suffix_list IS NULL))
);

CREATE TABLE ownership (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES account,
    domain text NOT NULL,
    covers_subdomains boolean NOT NULL,
    method text NOT NULL CHECK (method IN ('attested')),
    verified_at timestamptz NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz CHECK (ended_at >= started_at),
    end_reason text,
    CHECK ((ended_at IS NULL) = (end_reason IS NULL))
);

CREATE UNIQUE INDEX ownership_live ON ownership (domain) WHERE ended_at IS NULL;
CREATE INDEX ownership_account ON ownership (account_id);

CREATE TABLE connection (
    id uuid PRIMARY KEY,
    buyer_id uuid NOT NULL REFERENCES account,
    seller_id uuid NOT NULL REFERENCES account,
    started_at timestamptz NOT NULL,
    ended_at timestamptz CHECK (ended_at >= started_at),
    CHECK (buyer_id <> seller_id)
);

CREATE UNIQUE INDEX connection_live ON connection (buyer_id, seller_id) WHERE ended_at IS NULL;
CREATE INDEX connection_seller ON connection (seller_id);

CREATE TABLE visibility_grant (
    id uuid PRIMARY KEY,
    connection_id uuid NOT NULL REFERENCES connection,
    owner_id uuid NOT NULL REFERENCES account,
    viewer_id uuid NOT NULL REFERENCES account,
    started_at timestamptz NOT NULL,
    ended_at timestamptz CHECK (ended_at >= started_at),
    CHECK (owner_id <> viewer_id)
);

CREATE UNIQUE INDEX visibility_grant_live ON visibility_grant (owner_id, viewer_id)
    WHERE ended_at IS NULL;
CREATE INDEX visibility_grant_connection ON visibility_grant (connection_id);

CREATE TABLE event (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL,
    action text NOT NULL,
    account_id uuid REFERENCES account,
    detail jsonb NOT NULL
);

CREATE INDEX event_account ON event (account_id, id);

-- No foreign keys: the statement that inserts has just read the rows, accounts and keys are never
-- deleted, and four look-ups an answer would be paid for nothing.
CREATE TABLE answer (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL,
    api_key_id uuid NOT NULL,
    cert_id text NOT NULL,
    domain text,
    -- NULL: the call did not ask who the owner is.
    status text CHECK (status IN ('named', 'verified', 'none', 'not_applicable')),
    -- What identifies the owner is kept only where the caller was told it.
    owner_account_id uuid,
    owner_name text,
    covered_by text,
    verified_at timestamptz,
    answered_at timestamptz NOT NULL,
    CHECK (status IS NOT DISTINCT FROM 'named'
           OR num_nonnulls(owner_account_id, owner_name, covered_by, verified_at) = 0)
);

-- migrate: rollback

DROP TABLE answer, event, visibility_grant, connection, ownership, certificate, api_key, membership,
    app_user, account;
