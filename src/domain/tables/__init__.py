"""Tables that others made, as they are found in files: what their lines, headings and cells mean."""
