"""What one looks at: maps and curves as files, and pages that hold their data and need no server and no network."""
