"""The Certificate API: facts about certificates, and the decision who owns one."""
