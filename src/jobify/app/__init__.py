"""The app: what a user declares, starts and closes."""
