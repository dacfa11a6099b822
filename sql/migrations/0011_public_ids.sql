-- Ids of events that don't count what others do
-- depends: 0010_outbox

-- migrate: apply

ALTER TABLE event
    ADD COLUMN public_id uuid NOT NULL DEFAULT gen_random_uuid()
        CONSTRAINT event_public_id_unique UNIQUE;

ALTER TABLE domain_evidence
    ADD COLUMN public_id uuid NOT NULL DEFAULT gen_random_uuid()
        CONSTRAINT domain_evidence_public_id_unique UNIQUE;

-- migrate: rollback

ALTER TABLE event DROP COLUMN public_id;

ALTER TABLE domain_evidence DROP COLUMN public_id;
