"""What a study came to, for a person: tables, the live view, events."""
