"""The controller: plans tests, takes results in, shows and explains them."""
