"""Static packing: one size, groups, given GPUs; checked against trying everything."""
