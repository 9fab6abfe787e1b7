"""What runs plans: the state machine, the local engine, and the distributed one on Redis and Celery."""
