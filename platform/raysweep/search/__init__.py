"""What comes next: the ask-and-tell loop, samplers, schedulers, stopping rules, warm start. No Ray here."""
