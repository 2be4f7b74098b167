"""What models bring with them so that erasing can be judged. One folder or file for each testbed."""
