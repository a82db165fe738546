"""The manager: takes requests, observes runners, commits outcomes, plans, journals, acts, checkpoints."""
