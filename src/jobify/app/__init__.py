"""The app: declared by users, started, and shut down."""
