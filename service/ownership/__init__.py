"""Who owns a domain: host names and the periods during which a claim is verified."""
