"""What several erasers use; no file here is a method."""
