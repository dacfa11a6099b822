"""Why a call is refused."""


class Refusal(Exception):
    """A refusal, with the status and the reason that the caller is told."""

    status = 400
    reason = ""


class Unauthorized(Refusal):
    """No key like that."""

    status = 401
    reason = "Unauthorized"


class InactiveAccount(Refusal):
    """The account is suspended."""

    status = 402
    reason = "Account is inactive"


class CertificateNotFound(Refusal):
    """There is no such certificate, or not any more."""

    status = 404
    reason = "TrustedForm certificate has expired or could not be found"
