"""What a drift report costs, beside reading the data once and beside other libraries."""
