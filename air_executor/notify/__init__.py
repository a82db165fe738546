"""Delivery of notifications: what a target is, and how a message reaches it. Holds no state; see `manager.notifier`."""
