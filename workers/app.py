"""The Celery app: ``celery -A workers.app worker``. FLOWQ_* environment variables configure it."""

from flowq import FlowContext

app = FlowContext.get_instance().celery_app
