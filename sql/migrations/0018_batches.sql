-- Batches: files of certificates or sites that are answered as of one instant
-- depends: 0017_answer_months

-- migrate: apply

CREATE TABLE batch (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES account,
    api_key_id uuid NOT NULL REFERENCES api_key,
    name text CHECK (length(name) <= 200),
    state text NOT NULL CHECK (
        state IN ('uploading', 'reading', 'answering', 'summarizing', 'finished', 'failed', 'canceled')
    ),
    -- What is to be read: what was uploaded, or what the account has retained.
    source text NOT NULL CHECK (source IN ('upload', 'retained')),
    -- How to read it, as the caller wants it.
    options jsonb NOT NULL,
    -- How it was read: the format, the columns, the one with what is asked about.
    layout jsonb,
    -- The instant that all rows are answered as of.
    as_of timestamptz,
    is_as_of_given boolean NOT NULL,
    -- Row n, counted from 0, has the answer with this id plus n.
    first_answer_id uuid NOT NULL CONSTRAINT batch_answers UNIQUE,
    rows integer CHECK (rows >= 0),
    chunks integer CHECK (chunks >= 0),
    error jsonb,
    summary jsonb,
    upload_bytes bigint NOT NULL DEFAULT 0,
    -- When the last part arrived.
    uploaded_at timestamptz NOT NULL DEFAULT now(),
    upload_sha256 bytea CHECK (octet_length(upload_sha256) = 32),
    idempotency_key text,
    created_at timestamptz NOT NULL DEFAULT now(),
    answering_since timestamptz,
    ended_at timestamptz,
    expires_at timestamptz NOT NULL,
    deleted_at timestamptz,
    CHECK ((state IN ('finished', 'failed', 'canceled')) = (ended_at IS NOT NULL)),
    CHECK (state NOT IN ('answering', 'summarizing', 'finished') OR as_of IS NOT NULL)
);

CREATE INDEX batch_account ON batch (account_id, id);
CREATE UNIQUE INDEX batch_once ON batch (account_id, idempotency_key);
CREATE INDEX batch_unfinished ON batch (id) WHERE ended_at IS NULL;

-- What was uploaded, as it arrived. Deleted once it was read.
CREATE TABLE batch_upload (
    batch_id uuid NOT NULL REFERENCES batch,
    number integer NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (batch_id, number)
);

-- So many rows at a time: what they were, what was told about them, and how often which.
CREATE TABLE batch_chunk (
    batch_id uuid NOT NULL REFERENCES batch,
    number integer NOT NULL,
    first_row integer NOT NULL,
    rows integer NOT NULL,
    input bytea NOT NULL,
    -- NULL: not answered yet.
    told bytea,
    counts jsonb,
    PRIMARY KEY (batch_id, number)
);

CREATE INDEX batch_chunk_open ON batch_chunk (batch_id, number) WHERE told IS NULL;

-- Files of results, in parts. `length` is that of the part's content before compression.
CREATE TABLE batch_result (
    batch_id uuid NOT NULL REFERENCES batch,
    format text NOT NULL,
    number integer NOT NULL,
    length integer NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (batch_id, format, number)
);

-- Which of them are wanted, and which are complete.
CREATE TABLE batch_format (
    batch_id uuid NOT NULL REFERENCES batch,
    format text NOT NULL,
    is_complete boolean NOT NULL DEFAULT false,
    error text,
    PRIMARY KEY (batch_id, format)
);

-- Compressed already, or about to be deleted.
ALTER TABLE batch_upload ALTER COLUMN content SET STORAGE EXTERNAL;
ALTER TABLE batch_chunk
    ALTER COLUMN input SET STORAGE EXTERNAL, ALTER COLUMN told SET STORAGE EXTERNAL;
ALTER TABLE batch_result ALTER COLUMN content SET STORAGE EXTERNAL;

-- migrate: rollback

DROP TABLE batch_format, batch_result, batch_chunk, batch_upload, batch;
