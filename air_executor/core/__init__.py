"""What things are and what is decided about them: no I/O, no clock, no platform."""
