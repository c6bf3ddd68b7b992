"""From bytes and query to what a client asks for."""
