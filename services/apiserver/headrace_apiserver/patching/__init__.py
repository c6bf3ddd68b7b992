"""What a write makes of an object: patches, server-side apply, and who owns which field."""
