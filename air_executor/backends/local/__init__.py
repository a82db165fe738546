"""The backend `local`: runners are processes of this machine."""
