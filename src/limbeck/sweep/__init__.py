"""Summary across the runs of a sweep: a table with the spread over seeds, and a picture."""
