"""What happened in a study: the journal, its history and mirror, checkpoint retention, and the queue."""
