"""The manager: takes requests, watches runners, books what ended, plans, journals, acts."""
