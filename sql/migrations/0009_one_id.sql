-- A certificate's hexadecimal id has one form, in lowercase
-- depends: 0008_opt_outs

-- migrate: apply

-- Recorded in another form, it was taken for a mobile certificate's. Of several forms on record the
-- greatest counts, which is the lowercase one if it is there. Nobody asks about the others any more.
UPDATE certificate SET
    cert_id = lower(cert_id),
    -- A guess, unless it has a domain or page nevertheless: then its importer said so.
    kind = CASE
        WHEN kind = 'mobile' AND NOT facts ?| ARRAY['domain', 'page_url', 'parent_page_url'] THEN 'web'
        ELSE kind
    END,
    known = array_remove(known, 'host'),
    revision = nextval('certificate_revision')
WHERE cert_id ~ '^[0-9a-fA-F]{40}$' AND cert_id <> lower(cert_id)
  AND NOT EXISTS (
      SELECT FROM certificate AS same
      WHERE lower(same.cert_id) = lower(certificate.cert_id)
        AND same.cert_id COLLATE "C" > certificate.cert_id COLLATE "C"
        AND same.imported_by IS NOT DISTINCT FROM certificate.imported_by
  );

UPDATE retained_certificate SET cert_id = lower(cert_id)
WHERE cert_id ~ '^[0-9a-fA-F]{40}$' AND cert_id <> lower(cert_id)
  AND NOT EXISTS (
      SELECT FROM retained_certificate AS same
      WHERE lower(same.cert_id) = lower(retained_certificate.cert_id)
        AND same.cert_id COLLATE "C" > retained_certificate.cert_id COLLATE "C"
        AND same.account_id = retained_certificate.account_id
  );

-- migrate: rollback

SELECT 1;
