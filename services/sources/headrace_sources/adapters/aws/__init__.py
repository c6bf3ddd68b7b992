"""Services of AWS as sources. Only the modules here import its client library."""
