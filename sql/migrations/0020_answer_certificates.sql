-- Find the answers about a certificate by a hash of its id, which takes half the room
-- depends: 0019_log

-- migrate: apply

DROP INDEX answer_certificate;
CREATE INDEX answer_certificate ON answer (account_id, hashtextextended(cert_id, 0));

-- migrate: rollback

DROP INDEX answer_certificate;
CREATE INDEX answer_certificate ON answer (account_id, cert_id);
