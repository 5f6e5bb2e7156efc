"""What of an optimizer's state a run carries from round to round, and what is refused."""
