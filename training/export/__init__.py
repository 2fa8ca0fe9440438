"""A bundle for other engines: files, and the proof that they answer alike."""
