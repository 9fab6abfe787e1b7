"""The Celery app for deployments, and example flows."""
