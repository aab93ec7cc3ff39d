"""Models in operation: trained from the warehouse, kept in the database, judged, and asked for forecasts."""
