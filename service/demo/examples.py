"""Examples for the API document. They are of the demo, so that they work after `make run`.

What they have of the demo is repeated here: importing it would slow the start of the service.
"""

from service.web.documents import Example

HARBOR, BRIGHT = "Harbor Insurance Group", "BrightQuote Media"
CERTIFICATE = "af0ff5ac2381735c06272203ad8a363f84c983fa"

_KEY_ID = "01a21d50-0000-7000-8000-000000000001"
_INVITATION_ID = "01a21d50-0000-7000-8000-000000000002"
_CONNECTION_ID = "01a21d50-0000-7000-8000-000000000003"
_USER_ID = "01a21d50-0000-7000-8000-000000000004"
_ACCOUNT_ID = "01a21d50-0000-7000-8000-000000000005"
_PARTNER_ID = "01a21d50-0000-7000-8000-000000000006"
_ANSWER_ID = "01a21d50-0000-7000-8000-000000000007"
_AT, _LATER = "2026-11-27T10:00:00Z", "2026-12-27T10:00:00Z"

_PARTNER = {"id": _PARTNER_ID, "name": BRIGHT}
_CONNECTION = {
    "id": _CONNECTION_ID,
    "role": "buyer",
    "partner": _PARTNER,
    "started_at": _AT,
    "name_shown_since": None,
    "partner_name_shown_since": _AT,
    "asked_by_partner_at": None,
    "asked_at": None,
}
_INVITATION = {
    "email": "jo@seller.example",
    "id": _INVITATION_ID,
    "direction": "sent",
    "inviter": {"id": _ACCOUNT_ID, "name": HARBOR},
    "reason": "domain_ownership_visibility",
    "state": "pending",
    "created_at": _AT,
    "expires_at": _LATER,
    "sent_count": 1,
    "last_sent_at": _AT,
    "delivery": {"state": "sent"},
}
_ANSWER = {
    "id": _ANSWER_ID,
    "answered_at": _AT,
    "as_of": None,
    "key_id": _KEY_ID,
    "key_name": "Lead intake",
    "cert_id": CERTIFICATE,
    "host": "brightquote.example",
    "status": "named",
    "confirmed_owner": BRIGHT,
    "owner_account_id": _PARTNER_ID,
    "covered_by": "brightquote.example",
    "verified_at": _AT,
}
_CHECKPOINT = (
    "127.0.0.1:8000/answers\n1\nAfixCE4RfTTnxE6Yiwg+02ODV7Iu6gq13ldRcvgsNjs=\n\n"
    "— 127.0.0.1:8000/answers CuLBs…\n"
)
_BATCH = {
    "id": "01a21d50-0000-7000-8000-000000000008",
    "name": "leads.csv",
    "of": "upload",
    "state": "finished",
    "format": "csv",
    "column": "cert_url",
    "asks_about": "certificates",
    "as_of": _AT,
    "rows": 5000,
    "counts": {"named": 1650, "verified": 1900, "none": 1250, "not_applicable": 150, "error": 50},
    "rows_per_second": 25000.0,
    "estimated_end": None,
    "upload_bytes": 734_003,
    "upload_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "created_at": _AT,
    "ended_at": _AT,
    "expires_at": _LATER,
    "error": None,
}
_UNFINISHED = {**_BATCH, "state": "answering", "ended_at": None, "estimated_end": _AT}
_COUNTS = {"named": 3, "none": 1}
_CODE = "activeprospect-domain-verification=kU3dPq0ZrT8wYx2mNvB5hLsJ7gFcA-e_"
_DOMAIN = {
    "name": "seller.example",
    "status": "unverified",
    "reason": "ownership_not_yet_verified",
    "covers_subdomains": True,
    "subdomain_status": "unconfirmed",
    "added_at": _AT,
    "at_risk": False,
    "is_mixed_script": False,
    "records": [
        {
            "host": "seller.example",
            "relative_host": "@",
            "zone": "seller.example",
            "type": "TXT",
            "value": _CODE,
            "proves_subdomains": True,
        },
        {
            "host": "_domain-verification.seller.example",
            "relative_host": "_domain-verification",
            "zone": "seller.example",
            "type": "TXT",
            "value": _CODE,
            "proves_subdomains": False,
        },
    ],
}
_VERIFIED = {
    "name": "brightquote.example",
    "status": "verified",
    "method": "attested",
    "covers_subdomains": True,
    "subdomain_status": "confirmed",
    "added_at": _AT,
    "at_risk": False,
    "is_mixed_script": False,
    "records": _DOMAIN["records"],
}
_MEMBER = {
    "user_id": _USER_ID,
    "email": "admin@company0.example",
    "name": "Jo Harbor",
    "role": "admin",
    "since": _AT,
}
_ACCOUNT = {
    "id": _ACCOUNT_ID,
    "name": HARBOR,
    "created_at": _AT,
    "renamed_at": None,
    "limits": {
        "calls": 256,
        "certificates": 1_000_000,
        "certificate_bytes": 2_000_000_000,
        "purchases": 10_000,
    },
    "used": {"certificates": 12, "certificate_bytes": 9_184, "purchases": 0},
}
_IMPORTED = (
    '{"cert_url": "https://cert.trustedform.com/0123456789abcdef0123456789abcdef01234567", '
    '"insights": {"properties": {"domain": "example.com", "created_at": "2026-11-23T10:00:00Z"}}}\n'
)

EXAMPLES: dict[str, Example] = {
    "runOperations": Example(
        parameters={"cert_id": CERTIFICATE},
        request={
            "insights": {"properties": ["confirmed_owner", "confirmed_owner_detail", "domain"]}
        },
        response={
            "outcome": "success",
            "reason": None,
            "insights": {
                "properties": {
                    "confirmed_owner": BRIGHT,
                    "confirmed_owner_detail": {
                        "status": "named",
                        "domain": "brightquote.example",
                        "answer_id": _ANSWER_ID,
                        "covered_by": "brightquote.example",
                        "owner_account_id": _PARTNER_ID,
                        "verified_at": _AT,
                    },
                    "domain": "brightquote.example",
                }
            },
        },
    ),
    "validateCertificateId": Example(
        parameters={"cert_id": CERTIFICATE},
        response={"outcome": "success", "reason": "This is a valid Web certificate id"},
    ),
    "importCertificates": Example(
        request=_IMPORTED,
        response={
            "items": [
                {
                    "line": 1,
                    "cert_id": "0123456789abcdef0123456789abcdef01234567",
                    "result": "created",
                }
            ]
        },
    ),
    "getAccount": Example(response=_ACCOUNT),
    "renameAccount": Example(request={"name": HARBOR}, response=_ACCOUNT),
    "listMembers": Example(response={"items": [_MEMBER], "next": None}),
    "inviteMembers": Example(
        request={"emails": ["al@harbor.example"], "role": "member"},
        response={
            "items": [
                {
                    **_INVITATION,
                    "email": "al@harbor.example",
                    "reason": "join_account",
                    "role": "member",
                    "status_code": 201,
                }
            ]
        },
    ),
    "changeMember": Example(
        parameters={"user_id": _USER_ID}, request={"role": "admin"}, response=_MEMBER
    ),
    "removeMember": Example(parameters={"user_id": _USER_ID}),
    "listKeys": Example(
        response={
            "items": [
                {"id": _KEY_ID, "name": "Lead intake", "created_at": _AT, "last_used_at": _AT}
            ],
            "next": None,
        }
    ),
    "createKey": Example(
        request={"name": "Lead intake"},
        response={"id": _KEY_ID, "name": "Lead intake", "key": f"cok_{'0' * 48}"},
    ),
    "revokeKey": Example(parameters={"key_id": _KEY_ID}),
    "listEvents": Example(
        response={
            "items": [
                {
                    "id": "5d0f9f0e-6c1b-4c39-9a53-6c2f1d0c8a11",
                    "at": _AT,
                    "action": "connection.started",
                    "by": {"kind": "partner"},
                    "detail": {"connection_id": _CONNECTION_ID, "partner": _PARTNER},
                }
            ],
            "next": None,
        }
    ),
    "invite": Example(
        request={"emails": ["jo@seller.example"], "reason": "domain_ownership_visibility"},
        response={"items": [{**_INVITATION, "status_code": 201}]},
    ),
    "listInvitations": Example(response={"items": [_INVITATION], "next": None}),
    **{
        name: Example(parameters={"invitation_id": _INVITATION_ID}, response=response)
        for name, response in (
            ("getInvitation", _INVITATION),
            ("resendInvitation", {**_INVITATION, "sent_count": 2}),
            ("cancelInvitation", {**_INVITATION, "state": "cancelled", "ended_at": _AT}),
            ("declineInvitation", {**_INVITATION, "state": "declined", "ended_at": _AT}),
        )
    },
    "acceptInvitation": Example(
        parameters={"invitation_id": _INVITATION_ID},
        request={"shows_name": True},
        response={
            **_INVITATION,
            "state": "accepted",
            "ended_at": _AT,
            "connection_id": _CONNECTION_ID,
        },
    ),
    "listConnections": Example(response={"items": [_CONNECTION], "next": None}),
    **{
        name: Example(parameters={"connection_id": _CONNECTION_ID}, response=response)
        for name, response in (
            ("getConnection", _CONNECTION),
            ("disconnect", None),
            ("showName", {**_CONNECTION, "name_shown_since": _AT}),
            ("hideName", None),
            ("askForName", {**_CONNECTION, "asked_at": _AT, "partner_name_shown_since": None}),
            ("endRequestForName", None),
        )
    },
    "getVisibility": Example(
        response={
            "items": [
                {"connection_id": _CONNECTION_ID, "partner": _PARTNER, "name_shown_since": _AT}
            ],
            "next": None,
        }
    ),
    "listDomains": Example(response={"items": [_VERIFIED], "next": None}),
    "addDomains": Example(
        request={"names": ["seller.example"], "covers_subdomains": True},
        response={"items": [{**_DOMAIN, "status_code": 201}]},
    ),
    "getDomain": Example(parameters={"name": "brightquote.example"}, response=_VERIFIED),
    "changeDomain": Example(
        parameters={"name": "seller.example"},
        request={"covers_subdomains": True},
        response=_DOMAIN,
    ),
    "removeDomain": Example(parameters={"name": "seller.example"}),
    "verifyDomain": Example(
        parameters={"name": "seller.example"}, response={**_DOMAIN, "reason": "code_not_found"}
    ),
    "getDomainHistory": Example(
        parameters={"name": "brightquote.example"},
        response={
            "items": [
                {
                    "id": "0f9e6a42-6f0c-4d0b-8a3e-0d7d3b9f2c55",
                    "at": _AT,
                    "change": "verified",
                    "evidence": {"outcome": "found", "agreeing": 3, "asked": 3},
                }
            ],
            "next": None,
        },
    ),
    "askAboutMany": Example(
        request={
            "items": [{"cert_id": CERTIFICATE}, {"page_url": "https://brightquote.example/auto"}],
            "properties": ["confirmed_owner"],
        },
        response={
            "as_of": _AT,
            "results": [
                {
                    "cert_id": CERTIFICATE,
                    "insights": {"properties": {"confirmed_owner": BRIGHT}},
                    "answer_id": _ANSWER_ID,
                },
                {
                    "page_url": "https://brightquote.example/auto",
                    "insights": {"properties": {"confirmed_owner": BRIGHT}},
                    "answer_id": _ANSWER_ID,
                },
            ],
        },
    ),
    "createBatch": Example(
        request="cert_url\nhttps://cert.trustedform.com/" + CERTIFICATE + "\n",
        otherwise={"of": "retained", "vendor": BRIGHT},
        response=_UNFINISHED,
    ),
    "listBatches": Example(response={"items": [_BATCH], "next": None}),
    "getBatch": Example(parameters={"batch_id": str(_BATCH["id"])}, response=_BATCH),
    "cancelBatch": Example(
        parameters={"batch_id": str(_BATCH["id"])}, response={**_BATCH, "state": "canceled"}
    ),
    "deleteBatch": Example(parameters={"batch_id": str(_BATCH["id"])}),
    "getBatchSummary": Example(
        parameters={"batch_id": str(_BATCH["id"])},
        response={
            "counts": _COUNTS,
            "domains": [
                {"domain": "brightquote.example", "status": "named", "rows": 3},
                {"domain": "unclaimed-offers.example", "status": "none", "rows": 1},
            ],
            "columns": [{"name": "vendor", "values": [{"value": "Acme", **_COUNTS}]}],
            "days": [{"day": "2026-11-27", **_COUNTS}],
        },
    ),
    "getBatchResults": Example(
        parameters={"batch_id": str(_BATCH["id"])},
        response="cert_url,confirmed_owner,status,domain,expired,error,answer_id\r\n",
    ),
    "listAnswers": Example(response={"items": [_ANSWER], "next": None}),
    "getAnswer": Example(
        parameters={"answer_id": _ANSWER_ID},
        response={
            **_ANSWER,
            "receipt": {
                "statement": '{"answer_id":"01a21d50-0000-7000-8000-000000000007"}',
                "nonce": "00112233445566778899aabbccddeeff",
                "leaf_index": 0,
                "tree_size": 1,
                "path": [],
                "checkpoint": _CHECKPOINT,
            },
        },
    ),
    "getCheckpoint": Example(response=_CHECKPOINT),
    "getLogKeys": Example(
        response="127.0.0.1:8000/answers+0ae2c1b3+AfixCE4RfTTnxE6Yiwg+02ODV7Iu6gq13ldRcvgsNjvA\n"
    ),
    "getConsistencyProof": Example(
        parameters={"first": "1", "second": "2"},
        response={"first": 1, "second": 2, "path": [64 * "0"]},
    ),
    "listRetained": Example(
        response={
            "items": [
                {
                    "cert_id": CERTIFICATE,
                    "retained_at": _AT,
                    "reference": "lead 4711",
                    "vendor": BRIGHT,
                    "campaign_id": None,
                    "answer_id": _ANSWER_ID,
                }
            ],
            "next": None,
        }
    ),
    "health": Example(response={"status": "ok", "version": "0.1.0"}),
    "ready": Example(response={"status": "ready"}),
}
