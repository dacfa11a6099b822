-- The log: a Merkle tree over all answers, and what is needed to prove that one is in it
-- depends: 0018_batches

-- migrate: apply

-- One row, made when the first answers are sealed.
CREATE TABLE log (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    -- How its checkpoints call it. It never changes.
    origin text NOT NULL,
    size bigint NOT NULL DEFAULT 0,
    -- Every answer given before is sealed.
    sealed_until timestamptz NOT NULL DEFAULT 'epoch'
);

-- The hashes of the tree, 256 of a level in a row: level 0 has the leaves, level n the roots of full
-- subtrees of 256^n of them (C2SP tlog-tiles).
CREATE TABLE log_tile (
    level smallint NOT NULL,
    number bigint NOT NULL,
    hashes bytea NOT NULL CHECK (octet_length(hashes) BETWEEN 32 AND 8192),
    PRIMARY KEY (level, number)
);

-- Which leaf an answer is. The nonce keeps others from guessing what a leaf is about.
CREATE TABLE sealed_answer (
    position bigint PRIMARY KEY,
    answer_id uuid NOT NULL CONSTRAINT sealed_answer_once UNIQUE,
    nonce bytea NOT NULL CHECK (octet_length(nonce) = 16)
);

CREATE TABLE log_checkpoint (
    size bigint PRIMARY KEY,
    note text NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()
);

-- Signed notes: of how many answers, with ids before which, only the hashes are kept.
CREATE TABLE log_drop (
    before uuid PRIMARY KEY,
    note text NOT NULL
);

-- The public keys that checkpoints were ever signed with.
CREATE TABLE log_key (
    verifier_key text PRIMARY KEY,
    first_used_at timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE log_tile ALTER COLUMN hashes SET STORAGE EXTERNAL;

-- migrate: rollback

DROP TABLE log_key, log_drop, log_checkpoint, sealed_answer, log_tile, log;
