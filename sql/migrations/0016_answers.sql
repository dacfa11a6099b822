-- Accounts read what they were told, by time and by certificate
-- depends: 0015_as_of

-- migrate: apply

CREATE INDEX answer_account ON answer (account_id, id);
CREATE INDEX answer_certificate ON answer (account_id, cert_id);
CREATE INDEX retained_certificate_time ON retained_certificate (account_id, retained_at, cert_id);

-- migrate: rollback

DROP INDEX answer_account, answer_certificate, retained_certificate_time;
