"""Every record of Air-Executor, declared once: what is accepted, stored and shown. No I/O, no clock, no decisions."""
