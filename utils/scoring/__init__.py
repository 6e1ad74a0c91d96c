"""What scores and distances are worth."""
