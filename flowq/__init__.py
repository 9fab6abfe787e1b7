"""Runs flows of typed processing steps on Celery and Redis."""
