"""One model, from 1 to 40 requests a second within a second: what scaling makes of it, beside two baselines."""
