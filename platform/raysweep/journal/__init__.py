"""What happened in a study: the journal and its fold, its mirror, what is kept, what a person queues."""
