"""The `local` backend: runners are processes of this machine."""
