"""A study's results for a person to read: tables, the live view, events."""
