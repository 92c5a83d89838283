"""What each stage of the workflow computes, from the records of those before it to its own files."""
