"""What the storages on SQL databases share: the paths that are taken seldom, written once, against named statements."""
