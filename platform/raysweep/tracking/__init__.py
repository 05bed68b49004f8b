"""MLflow: where it is, the publisher that brings the journal to it, saved views, models."""
