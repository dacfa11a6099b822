"""Who owns the site a lead came from: the Certificate API v4 with a verified `confirmed_owner`."""

__version__ = "0.1.0"
