"""What ``jobify jobs …`` does: select jobs, change them, list them, and show one in detail."""
