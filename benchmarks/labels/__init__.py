"""Wrong labels and new ones: the audit and the review page."""
