"""Who was asked for what: email invitations and their outcomes."""
