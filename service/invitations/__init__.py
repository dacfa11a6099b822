"""Who was asked for what: invitations by e-mail, and what became of them."""
