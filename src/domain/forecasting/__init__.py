"""Forecasts of hourly flow, 1 to 168 hours ahead, for many nodes at once."""
