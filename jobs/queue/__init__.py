"""Celery queues: publisher, consumer and Flower."""
