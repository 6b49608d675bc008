"""Networks behind recognizers: these modules load torch when imported, recognizers do not."""
