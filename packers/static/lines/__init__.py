"""One size per item, one capacity for all bins: packing by memory alone. Sizes are whole numbers of any unit."""
