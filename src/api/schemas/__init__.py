"""What the endpoints answer, for OpenAPI and its readers; the bytes themselves are made without passing through here.

Instants are UTC, windows are [window_start, window_end), what is not known is null.
"""
