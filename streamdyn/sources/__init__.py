"""What to read: files, URLs, audio, synthetic streams."""
