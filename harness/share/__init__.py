"""What is shared of a finished run: its tickets and card; what checks and compares it. No science imports it."""
