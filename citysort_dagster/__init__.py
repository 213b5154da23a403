"""CitySort: document intake for cities, as a Dagster project."""

import warnings

# Partitioned backfills and asset checks are what this project stands on; that Dagster still calls
# parts of them beta is known, and no news to those who run it.
warnings.filterwarnings("ignore", message=".*is currently in (beta|preview).*")
