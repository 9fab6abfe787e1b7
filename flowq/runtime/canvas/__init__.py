"""Flows as Celery's own chains, groups and chords: every node a task of its own.

``signatures`` makes Celery's objects of a lowered plan, ``deliveries`` publishes what the run's state releases, and
``tasks`` are what the workers run.
"""
