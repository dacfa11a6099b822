"""The home page, which gathers what each subject has for who is signed in."""
