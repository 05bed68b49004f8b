"""What a person writes: parameters, the space, options, checks, and the study that holds them."""
